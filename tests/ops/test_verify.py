"""The verifier: one test a rule, each with the place that the message names."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lithe.errors import LimitError, LitheError, ModelError, UnsupportedOp
from lithe.formats import tflite
from lithe.formats.tflite import open_model
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops import REGISTRY
from lithe.ops.op import unknown
from lithe.ops.verify import Limits, verify
from lithe.ops.verify_calls import called_graphs
from lithe.runtime.reference import ReferenceExecutor
from lithe.types import BOOL, FLOAT32, INT8, INT32, DType, Quantization, TensorType
from tests.ops.cases import Case, every_case
from tests.ops.official import model_bytes


def tensor(name: str, shape: tuple[int, ...] = (1, 4), dtype: DType = FLOAT32, data: object = None, **fields) -> Tensor:
    array = None if data is None else np.full(shape, data, dtype.numpy)
    return Tensor(name, TensorType(dtype, shape, fields.pop("quantization", None)), array, **fields)


def adds() -> Module:
    """z = (x + c) + y"""
    x, y, c, s, z = tensor("x"), tensor("y"), tensor("c", data=1), tensor("s"), tensor("z")
    op = REGISTRY.by_name["ADD"]
    nodes = [Node(op, op.Attrs(), [x, c], [s], 0), Node(op, op.Attrs(), [s, y], [z], 1)]
    for i, t in enumerate(tensors := [x, y, c, s, z]):
        t.index = i
    return Module([Graph("main", [x, y], [z], tensors, nodes)], [Signature("serve", {"x": x}, {"z": z})])


def refused(module: Module, text: str, where: str = "", kind: type[LitheError] = ModelError, **limits: int) -> None:
    with pytest.raises(kind, match=text) as caught:
        verify(module, Limits(**limits))
    assert where in caught.value.where, caught.value.where


def not_run(module: Module, text: str, where: str) -> None:
    """The module passes; its first node carries the error that running it ends with."""
    verify(module)
    refusal = module.main.nodes[0].refusal
    assert isinstance(refusal, UnsupportedOp)
    assert re.search(text, refusal.problem), refusal.problem
    assert where in refusal.where, refusal.where
    assert not module.main.nodes[0].has_rules
    assert module.main.copy().nodes[0].refusal is refusal
    with pytest.raises(UnsupportedOp) as caught:
        ReferenceExecutor(module.main)
    assert caught.value is refusal


def test_a_sound_module_passes():
    verify(adds())


def test_a_module_without_graphs_is_refused():
    refused(Module([]), "no graph")


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"tensors": 4}, "5 tensors, the limit is 4"),
        ({"operators": 1}, "2 operators, the limit is 1"),
        ({"constant_bytes": 15}, "16 constant bytes, the limit is 15"),
        ({"rank": 1}, "rank 2 is above the limit 1"),
        ({"elements": 3}, "4 elements, the limit is 3"),
        ({"arena_bytes": 15}, "too large"),
    ],
)
def test_limits(limits: dict[str, int], text: str):
    refused(adds(), text, kind=LimitError, **limits)


def test_dimensions_are_in_range():
    refused(adds(), r"dimension 4 of \[1, 4\] must be in \[0, 3\]", "tensor #0 'x'", dimension=3)


def test_data_fit_their_type():
    m = adds()
    m.main.tensors[2].data = np.zeros((4, 1), np.float32)
    refused(m, r"the data are float32\[4, 1\], the type says float32\[1, 4\]", "tensor #2 'c'")


def test_a_variable_has_no_data():
    m = adds()
    m.main.tensors[2].is_variable = True
    refused(m, "a variable must not have data", "tensor #2 'c'")


@pytest.mark.parametrize(
    ("quantization", "text"),
    [
        (Quantization((0.0,), (0,)), "scale must be finite and positive, is 0.0"),
        (Quantization((-1.0,), (0,)), "finite and positive"),
        (Quantization((float("nan"),), (0,)), "finite and positive"),
        (Quantization((float("inf"),), (0,)), "finite and positive"),
        (Quantization((1.0,), (128,)), r"zero point 128 is not in int8's \[-128, 127\]"),
        (Quantization((1.0,), (-129,)), "zero point -129"),
        (Quantization((1.0, 2.0), (0,)), "2 scales and 1 zero points"),
        (Quantization((), ()), "0 scales"),
        (Quantization((1.0, 2.0), (0, 0), 1), "2 scales for 4 slices of axis 1"),
        (Quantization((1.0, 2.0), (0, 0), 2), r"axis 2 is not in \[0, 2\)"),
        (Quantization((1.0, 2.0), (0, 0), -1), "axis -1"),
    ],
)
def test_quantization(quantization: Quantization, text: str):
    m = adds()
    m.main.tensors.append(tensor("q", dtype=INT8, quantization=quantization))
    refused(m, text, "'q'")


def test_an_axis_that_does_not_matter_is_not_checked():
    m = adds()
    m.main.tensors.append(tensor("one scale", dtype=INT8, quantization=Quantization((1.0,), (0,), 3)))
    m.main.tensors.append(tensor("bias", (2,), INT32, quantization=Quantization((1.0, 2.0), (0, 0), 3)))
    m.main.tensors.append(tensor("float", quantization=Quantization((0.0,), (999,))))
    verify(m)


def test_a_whole_number_has_no_scales():
    m = adds()
    t = tensor("count", (), INT32, np.array(3, np.int32))
    t.type = replace(t.type, quantization=Quantization((0.1, 0.1), (0, 0), 1))
    m.main.tensors.append(t)
    verify(m)
    assert t.type.quantization is None


def test_graph_inputs_and_outputs():
    m = adds()
    m.main.inputs.append(tensor("stranger"))
    refused(m, "does not belong to the graph", "graph input 2")
    m = adds()
    m.main.inputs.append(m.main.tensors[2])
    refused(m, "a constant cannot be an input", "graph input 2, tensor #2 'c'")
    m = adds()
    m.main.tensors.append(tensor("loose"))
    m.main.outputs.append(m.main.tensors[-1])
    refused(m, "nothing computes it", "graph output 1")


def test_operators_come_after_what_they_read():
    m = adds()
    m.main.nodes.reverse()
    verify(m)
    refusal = m.main.nodes[0].refusal
    assert isinstance(refusal, ModelError)
    assert "no operator before this one computes it" in refusal.problem
    assert "op #1 ADD, input 0 'input1', tensor #3 's'" in refusal.where
    m.main.nodes.pop()
    refused(m, "no operator before this one computes it", "op #1 ADD, input 0 'input1', tensor #3 's'")


def test_operators_do_not_write_what_is_not_theirs():
    m = adds()
    m.main.nodes[1].outputs = [m.main.tensors[2]]
    refused(m, "must not write a constant", "op #1 ADD, output 0")
    m.main.nodes[1].outputs = [tensor("stray")]
    refused(m, "must not write a tensor of another graph", "op #1 ADD, output 0")


@pytest.mark.parametrize("data", [None, 0])
def test_what_an_operator_changes_is_a_variable(data):
    op = REGISTRY.by_name["RNN"]
    x, y = tensor("x", (1, 3)), tensor("y", (1, 2))
    weights = [tensor("w", (2, 3), data=1), tensor("r", (2, 2), data=1), tensor("b", (2,), data=1)]
    state = tensor("state", (1, 2), data=data)
    members = [x, *weights, state, y]
    inputs = [x] if data is not None else [x, state]
    m = Module([Graph("main", inputs, [y], members, [Node(op, op.Attrs(), [x, *weights, state], [y], 0)])])
    refused(m, "must be a variable: the operator changes it", "op #0 RNN, input 4 'hidden_state'")


def test_a_graph_beside_the_main_one_may_be_wrong_until_it_is_used():
    m = adds()
    m.graphs.append(adds().main)
    m.graphs[1].nodes[0].inputs.pop()
    verify(m)
    assert m.main.refusal is None
    refusal = m.graphs[1].refusal
    assert isinstance(refusal, ModelError)
    assert refusal.where == "graph #1 op #0 ADD"


def test_results_have_the_types_that_the_operator_makes():
    m = adds()
    s = m.main.tensors[3]
    s.type = replace(s.type, dtype=INT32)
    verify(m)
    assert s.type.dtype is FLOAT32


def test_the_number_of_operands():
    m = adds()
    m.main.nodes[0].inputs.append(m.main.inputs[0])
    refused(m, r"must have 2 inputs \(input1, input2\), has 3", "op #0 ADD")
    m = adds()
    m.main.nodes[0].inputs.pop()
    refused(m, "has 1", "op #0 ADD")
    m = adds()
    m.main.nodes[1].outputs = []
    refused(m, r"must have 1 output \(output\), has 0", "op #1 ADD")


def test_only_optional_operands_may_be_absent():
    m = adds()
    m.main.nodes[0].inputs[1] = None
    refused(m, "must be present", "op #0 ADD, input 1 'input2'")


def test_element_types_must_be_a_combination_of_the_operator():
    m = adds()
    for t in (*m.main.inputs, m.main.tensors[2]):
        t.type = TensorType(BOOL, (1, 4))
    m.main.tensors[2].data = np.ones((1, 4), bool)
    not_run(m, r"no rule for these types: \(bool, bool\) -> \(float32\); here it takes float32", "op #0 ADD, input 0")


def test_only_some_activations_can_be_fused():
    m = adds()
    m.main.nodes[0].attrs = replace(m.main.nodes[0].attrs, fused_activation_function="SWISH")
    not_run(m, "fused activation must be one of NONE, .*, is SWISH", "op #0 ADD")


def test_quantized_types_must_carry_their_scale():
    x, y = tensor("x", dtype=INT8), tensor("y", dtype=INT8)
    op = REGISTRY.by_name["LOGISTIC"]
    m = Module([Graph("main", [x], [y], [x, y], [Node(op, op.Attrs(), [x], [y], 0)])])
    not_run(m, "int8 with a scale and a zero point", "op #0 LOGISTIC, input 0 'input'")


def test_blockwise_weights_are_known_and_not_run():
    m = adds()
    m.main.tensors[2].extras["quantization_details"] = ("BlockwiseQuantization", {})
    not_run(m, "a scale for each block", "op #0 ADD, input 1")


def in_blocks(case: Case, **changed: object) -> Module:
    """A fully connected layer with a scale for each block, with some fields of its quantization changed."""
    module = tflite.read(model_bytes(case))
    w = module.main.nodes[0].inputs[1]
    w.type = replace(w.type, quantization=replace(w.type.quantization, **changed))
    return module


def test_blockwise_weights_are_read_checked_and_written():
    case = next(c for c in every_case(lambda c: str(c) == "FULLY_CONNECTED-int4_in_blocks_of_32"))
    module = tflite.read(model_bytes(case))
    verify(module)
    assert module.main.nodes[0].refusal is None
    q = module.main.nodes[0].inputs[1].type.quantization
    assert q == case.inputs[1].quantization
    again = tflite.read(tflite.write(module))
    assert again.main.nodes[0].inputs[1].type.quantization == q
    for block in (-1, 48, 16):
        with pytest.raises(ModelError, match=r"scales for blocks of"):
            verify(in_blocks(case, block=block))
    with pytest.raises(ModelError, match="zero points of blocks must be 0"):
        verify(in_blocks(case, zero_point=(1,) * len(q.scale)))
    weights = module.main.nodes[0].inputs[1]
    weights.extras["quantization_details"][1]["scales"] = 77
    again = tflite.read(tflite.write(module))
    assert again.main.nodes[0].inputs[1].type.quantization == q, "what has lost its place is written anew"
    weights.type = replace(weights.type, quantization=None)
    again = tflite.read(tflite.write(module))
    not_run(again, "a scale for each block", "op #0 FULLY_CONNECTED, input 1")


def test_a_broken_rule_of_an_operator_names_operator_and_tensor():
    m = adds()
    m.main.tensors[1].type = replace(m.main.tensors[1].type, shape=(1, 3))
    refused(m, r"1, 3", "op #1 ADD")


def test_shapes_that_are_open_are_not_judged():
    m = adds()
    m.main.tensors[1].type = replace(m.main.tensors[1].type, shape=(1, 3))
    m.main.tensors[1].shape_signature = (1, -1)
    verify(m)


def test_declared_shapes_of_results_are_not_believed():
    m = adds()
    m.main.tensors[3].type = replace(m.main.tensors[3].type, shape=(7, 7))
    verify(m)


class Odd:
    """An operator whose rule is what a test says."""

    name, code, known, stateful = "ODD", 1, True, False
    operands = (("x",), ("y",))
    signatures = ()
    activations, calls, changes = ("NONE",), {}, staticmethod(lambda attrs: ())

    @dataclass(frozen=True)
    class Attrs:
        pass


@pytest.mark.parametrize(
    ("infer", "text"),
    [
        (lambda site: 1 // 0, "cannot be computed"),
        (lambda site: [(2**31,)], "would have the shape"),
        (lambda site: [(-1,)], "would have the shape"),
        (lambda site: [(2**30, 2**4)], "too large"),
        (lambda site: [(1,), (1,)], "has 1 outputs, the operator makes 2"),
        (lambda site: (_ for _ in ()).throw(LimitError("no")), "no"),
    ],
)
def test_rules_that_fail_or_overflow(infer, text: str):
    m = adds()
    m.main.nodes[1:] = []
    m.main.outputs[:] = m.main.nodes[0].outputs
    m.main.nodes[0].inputs.pop()
    m.main.nodes[0].op = type("Odd", (Odd,), {"infer": staticmethod(infer)})
    m.main.nodes[0].attrs = Odd.Attrs()
    m.signatures = []
    refused(m, text)


def test_unknown_operators_pass_and_have_no_rules():
    m = adds()
    for n, name in zip(m.main.nodes, ("Mystery", "Enigma"), strict=True):
        n.op, n.attrs = unknown(name, None), {}
    verify(m)
    assert not any(n.has_rules for n in m.main.nodes)


def calling(*targets: int, option: str = "init_subgraph_index", name: str = "CALL_ONCE") -> Graph:
    op = unknown(name, 129)
    return Graph("g", [], [], [], [Node(op, {option: t}, [], [], i) for i, t in enumerate(targets)])


def test_calls_name_graphs_that_exist():
    refused(Module([calling(3)]), "graph 3 does not exist, the model has 1", "op #0 CALL_ONCE, init_subgraph_index")
    refused(Module([calling(-1)]), "graph -1 does not exist")


def test_calls_do_not_come_back():
    refused(Module([calling(0)]), "in a circle: 0 -> 0")
    refused(Module([calling(1), calling(2), calling(1)]), "in a circle: 0 -> 1 -> 2 -> 1")


def test_calls_are_not_nested_too_deep():
    chain = Module([*(calling(i + 1) for i in range(20)), calling()])
    refused(chain, "deeper than 16", "op #0 CALL_ONCE, init_subgraph_index", kind=LimitError)
    refused(Module([calling(), *(calling(i) for i in range(20))]), "deeper than 16", "graph #16", kind=LimitError)
    verify(chain, Limits(call_depth=30))
    # The same graph called twice on every level: 2^14 ways, judged in no time.
    verify(Module([*(calling(i + 1, i + 1) for i in range(14)), calling()]))


def test_called_graphs_fit_their_callers():
    op = REGISTRY.by_name["WHILE"]
    caller = Graph("g", [], [], [], [Node(op, op.Attrs(cond_subgraph_index=1, body_subgraph_index=1), [], [], 0)])
    refused(Module([caller, adds().main]), r"must have 0 inputs and 1 outputs, has \(2, 1\)", "cond_subgraph_index")


def test_all_ways_to_call_are_found():
    attrs = {"branch_subgraph_indices": (1, 2), "subgraph": 3, "cond_subgraph_index": 4, "axis": 9}
    node = Node(unknown("X", 5), attrs, [], [])
    assert sorted(i for _, i in called_graphs(node)) == [1, 2, 3, 4]


def test_signatures_name_inputs_and_tensors_of_their_graph():
    m = adds()
    m.signatures[0].inputs["x"] = m.main.tensors[3]
    refused(m, "is no input of the graph", "signature 'serve', input 'x'")
    m = adds()
    m.signatures[0].outputs["z"] = tensor("stranger")
    refused(m, "is not in the graph", "signature 'serve', output 'z'")
    m = adds()
    m.signatures[0].graph = 4
    refused(m, "graph 4 does not exist", "signature 'serve'")


def test_real_models_are_sound(corpus: Path):
    for path in sorted((corpus / "models").rglob("*.tflite")):
        verify(open_model(path))
