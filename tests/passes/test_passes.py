"""Passes on small graphs."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.errors import LimitError, ModelError, ResizeError
from lithe.ops import unknown
from lithe.ops.op import NoAttrs, Op, RuleViolation
from lithe.passes import is_dynamic, prepare, resize_inputs, rewrite
from lithe.passes.fold_constants import fold_constants
from lithe.passes.merge_reshapes import drop_copies_to_outputs, drop_identity_reshape, merge_reshapes
from lithe.passes.pipeline import Pass, pipeline
from lithe.passes.prepare import infer_and_fold, simplify_reshapes
from lithe.passes.remove_dead import remove_dead
from lithe.types import FLOAT32, INT32, TensorType
from tests.passes.check import check, picture
from tests.passes.graphs import Draft


def reshape(d, x, *shape):
    return d("RESHAPE", x, d.constant(shape, np.int32), shape=shape)


def test_declared_shapes_are_replaced_by_inferred_ones():
    d = Draft()
    x = d.input((2, 3))
    y = d("LOGISTIC", x, shape=(9, 9))
    assert prepare(d.graph(y)).outputs[0].type.shape == (2, 3)
    assert y.type.shape == (9, 9), "the graph given is not changed"


def test_a_computed_shape_operand_is_known_to_the_shape_rule():
    d = Draft()
    x = d.input((2, 6))
    target = d("CONCATENATION", d.constant([3], np.int32), d.constant([-1], np.int32), shape=(2,), axis=0)
    y = d("RESHAPE", x, target, shape=(1, 1))
    ready = prepare(d.graph(y))
    assert ready.outputs[0].type.shape == (3, 4)
    assert [n.op.name for n in ready.nodes] == ["RESHAPE"]


def test_fold_constants_computes_what_no_input_reaches():
    d = Draft()
    x = d.input((3,))
    w = d("LOGISTIC", d.constant([1, 2, 3]), shape=(3,))
    y = d("RESHAPE", x, d.constant([3], np.int32), shape=(3,))
    z = d("CONCATENATION", y, w, shape=(6,), axis=0)
    after = check(d.graph(z), fold_constants)
    assert [n.op.name for n in after.nodes] == ["RESHAPE", "CONCATENATION"]
    (folded,) = (t for t in after.tensors if t.index == w.index)
    np.testing.assert_allclose(folded.data, 1 / (1 + np.exp(-np.float32([1, 2, 3]))), rtol=1e-6)


def test_fold_constants_knows_the_shape_of_what_it_does_not_know():
    d = Draft()
    x, z = d.input((2, 6)), d.input((3, 4))
    y = d("RESHAPE", x, d("SHAPE", z, shape=(2,), dtype=INT32, out_type=INT32), shape=(1, 1))
    after = prepare(d.graph(y))
    assert after.outputs[0].type.shape == (3, 4)
    assert [n.op.name for n in after.nodes] == ["RESHAPE"]


def test_fold_constants_does_not_know_a_shape_that_depends_on_data():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    y = d("SHAPE", d("RESHAPE", x, target, shape=(1, 1)), shape=(2,), dtype=INT32, out_type=INT32)
    z = d("RESHAPE", x, y, shape=(1, 1))
    assert [n.op.name for n in prepare(d.graph(z)).nodes] == ["RESHAPE", "SHAPE", "RESHAPE"]


def test_fold_constants_leaves_what_the_graph_gives_out():
    d = Draft()
    d.input((1,))
    y = d("LOGISTIC", d.constant([1.0]), shape=(1,))
    assert len(check(d.graph(y), fold_constants).nodes) == 1


def test_fold_constants_does_not_unfold_a_small_file_into_a_huge_constant():
    class Huge(Op):
        name = "HUGE"
        Attrs = NoAttrs

        def infer(site):
            return [(1 << 24,)]

        def evaluate(site, x):
            raise AssertionError("must not be computed")

    d = Draft()
    x = d.input((1,))
    y = d("CONCATENATION", x, d(Huge, d.constant([1.0])), axis=0)
    assert [n.op.name for n in prepare(d.graph(y)).nodes] == ["HUGE", "CONCATENATION"]


@pytest.mark.parametrize("failure", [ValueError("no"), IndexError("no"), ZeroDivisionError("no"), RuleViolation("no")])
def test_fold_constants_leaves_a_node_that_cannot_be_computed_to_the_run(failure):
    class Broken(Op):
        name = "BROKEN"

        def infer(site):
            return [(1,)]

        def evaluate(site, x):
            raise failure

    d = Draft()
    y = d("LOGISTIC", d(Broken, d.constant([1.0])), shape=(1,))
    assert [n.op.name for n in prepare(d.graph(y)).nodes] == ["BROKEN", "LOGISTIC"]


def test_a_stateful_operator_is_neither_folded_nor_dropped():
    class Dice(Op):
        name, stateful = "DICE", True

        def infer(site):
            return [(1,)]

        def evaluate(site, x):
            return [x]

    d = Draft()
    x = d.input((1,))
    d(Dice, d.constant([1.0]))
    y = d("LOGISTIC", x, shape=(1,))
    assert [n.op.name for n in prepare(d.graph(y)).nodes] == ["DICE", "LOGISTIC"]


def test_merge_reshapes_reads_past_the_inner_one():
    d = Draft()
    x = d.input((2, 6))
    y = reshape(d, reshape(d, x, 3, 4), 12)
    after = check(d.graph(y), simplify_reshapes)
    assert picture(after) == ["t4 = RESHAPE(t0, t3)"]


def test_merge_reshapes_keeps_the_inner_node_that_is_still_read():
    d = Draft()
    x = d.input((2, 6))
    inner = reshape(d, x, 3, 4)
    y = reshape(d, inner, 12)
    after = check(d.graph(y, d("LOGISTIC", inner, shape=(3, 4))), simplify_reshapes)
    assert [n.op.name for n in after.nodes] == ["RESHAPE", "RESHAPE", "LOGISTIC"]
    assert after.nodes[1].inputs[0] is after.inputs[0]


def test_drop_identity_reshape_lets_readers_read_its_input():
    d = Draft()
    x = d.input((2, 6))
    y = d("LOGISTIC", reshape(d, x, 2, 6), shape=(2, 6))
    assert picture(check(d.graph(y), simplify_reshapes)) == ["t3 = LOGISTIC(t0)"]


def test_drop_identity_reshape_keeps_a_graph_output():
    d = Draft()
    y = reshape(d, d.input((2, 6)), 2, 6)
    assert len(check(d.graph(y), simplify_reshapes).nodes) == 1


def test_what_makes_a_copied_tensor_makes_the_output():
    d = Draft()
    x = d.input((2, 6))
    made = d("LOGISTIC", x, shape=(2, 6))
    y, z = reshape(d, made, 2, 6), d("TANH", made, shape=(2, 6))
    after = check(d.graph(y, z), drop_copies_to_outputs)
    assert [n.op.name for n in after.nodes] == ["LOGISTIC", "TANH"]


def test_copies_of_inputs_and_of_outputs_stay():
    d = Draft()
    x = d.input((2, 6))
    made = d("LOGISTIC", x, shape=(2, 6))
    after = check(d.graph(reshape(d, x, 2, 6), made, reshape(d, made, 2, 6)), drop_copies_to_outputs)
    assert [n.op.name for n in after.nodes].count("RESHAPE") == 2


def test_reshapes_of_a_variable_stay():
    d = Draft()
    state = d.tensor((2, 2), is_variable=True)
    y = d("LOGISTIC", reshape(d, reshape(d, state, 4), 4), shape=(4,))
    graph = prepare(d.graph(y), keep_all=True)
    assert rewrite(graph, drop_identity_reshape) == 1
    assert rewrite(graph, merge_reshapes) == 0
    assert [n.op.name for n in graph.nodes] == ["RESHAPE", "LOGISTIC"]


def test_remove_dead_keeps_inputs_and_forgets_tensors_that_nothing_mentions():
    d = Draft()
    x, unused = d.input((2,)), d.input((3,))
    d("LOGISTIC", unused, shape=(3,))
    y = d("LOGISTIC", x, shape=(2,))
    after = check(d.graph(y), remove_dead)
    assert picture(after) == ["t3 = LOGISTIC(t0)"]
    assert [t.index for t in after.tensors] == [0, 1, 3]


def test_an_operator_that_lithe_does_not_know_is_kept_as_it_is():
    d = Draft()
    x = d.input((2,))
    d(unknown("Mystery", None), x, shape=(7,))
    y = d("LOGISTIC", x, shape=(2,))
    after = prepare(d.graph(y))
    assert [n.op.name for n in after.nodes] == ["Mystery", "LOGISTIC"]
    assert after.nodes[0].outputs[0].type.shape == (7,)


def test_a_shape_that_depends_on_data_is_none_from_there_on():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    y = d("LOGISTIC", d("RESHAPE", x, target, shape=(1, 1)), shape=(1, 1))
    after = prepare(d.graph(y))
    assert after.outputs[0].type.shape == (None, None)
    assert is_dynamic(after.outputs[0].type)
    assert not is_dynamic(TensorType(FLOAT32, (1, 2)))


def test_preparing_to_watch_every_tensor_keeps_every_node():
    d = Draft()
    x = d.input((2, 6))
    y = reshape(d, reshape(d, x, 3, 4), 2, 6)
    d("LOGISTIC", y, shape=(2, 6))
    assert len(prepare(d.graph(y), keep_all=True).nodes) == 3
    assert len(prepare(d.graph(y)).nodes) == 1


def test_a_broken_rule_names_the_operator_and_the_operand():
    d = Draft()
    y = reshape(d, d.input((2, 6)), 5)
    with pytest.raises(ModelError, match=r"cannot be given the shape \[5\]\n  at: op #0 RESHAPE, shape"):
        prepare(d.graph(y))


def rule_of(shape_rule):
    class Odd(Op):
        name = "ODD"

        def infer(site):
            return shape_rule()

        def evaluate(site, x):
            return [x]

    return Odd


@pytest.mark.parametrize(
    ("shape_rule", "error", "text"),
    [
        (lambda: [(-1,)], ModelError, r"would have the shape \[-1\]"),
        (lambda: [(1 << 40,)], ModelError, "would have the shape"),
        (lambda: [(1 << 20, 1 << 20)], LimitError, "needs 4398046511104 bytes, the limit is"),
        (lambda: [(1,), (2,)], ModelError, "has 1 outputs, the operator makes 2"),
        (lambda: [(1 // 0,)], ModelError, "cannot be computed: "),
        (lambda: [tuple(np.zeros(2))[3:][0]], ModelError, "cannot be computed: "),
    ],
)
def test_shapes_that_make_no_sense_are_refused(shape_rule, error, text):
    d = Draft()
    y = d(rule_of(shape_rule), d.input((1,)))
    with pytest.raises(error, match=text) as caught:
        prepare(d.graph(y))
    assert caught.value.where == "op #0 ODD"


def test_a_limit_that_a_shape_rule_meets_stays_a_limit():
    def rule():
        raise LimitError("too many crops", where="op #0 ODD, input 1")

    d = Draft()
    y = d(rule_of(rule), d.input((1,)))
    with pytest.raises(LimitError, match="too many crops") as caught:
        prepare(d.graph(y))
    assert caught.value.where == "op #0 ODD, input 1"


def test_a_shape_rule_may_know_nothing():
    d = Draft()
    y = d(rule_of(lambda: [None]), d.input((1,)), shape=(4, 4))
    assert prepare(d.graph(y)).outputs[0].type.shape == (None, None)


def test_resize_inputs_changes_a_copy():
    d = Draft()
    x = d.input((2, 3))
    graph = d.graph(d("LOGISTIC", x, shape=(2, 3)))
    assert prepare(resize_inputs(graph, {0: (5, 3)})).outputs[0].type.shape == (5, 3)
    assert x.type.shape == (2, 3)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [({7: (1,)}, "tensor #7 is not an input"), ({0: (-1, 3)}, "out of range"), ({0: (1 << 30, 1 << 30)}, "range")],
)
def test_resize_inputs_refuses_what_cannot_be(shapes, text):
    d = Draft()
    graph = d.graph(d("LOGISTIC", d.input((2, 3)), shape=(2, 3)))
    with pytest.raises(ResizeError, match=text):
        resize_inputs(graph, shapes)


def test_a_pipeline_is_refused_when_a_need_is_not_met():
    with pytest.raises(TypeError, match="pass remove_dead needs 'shapes inferred', which no pass before it gives"):
        pipeline(Pass(remove_dead, needs=("shapes inferred",)), Pass(infer_and_fold, gives=("shapes inferred",)))
