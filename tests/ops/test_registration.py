"""Operators of users: what they may be, what is said when they are wrong, and that they run everywhere."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pytest

import lithe
from lithe.errors import ExecutionError, InputError, ModelError, UnsupportedOp
from lithe.formats import flexbuffer, tflite
from lithe.ir.arithmetic import maximum, minimum
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.lite import InterpreterWithCustomOps
from lithe.lower import lower
from lithe.ops.op import REGISTRY, Op, RuleViolation, unknown
from lithe.ops.registration import register_op, unregister_op
from lithe.passes import prepare
from lithe.targets.cpu import GENERIC
from lithe.types import FLOAT32, TensorType
from tests import c_backend

X = np.float32([[-2, -0.5, 0.25, 3]])


def between(site, x):
    return minimum(maximum(x, np.float32(site.attrs.low)), np.float32(site.attrs.high))


class Between(Op):
    """x, but not below `low` nor above `high`."""

    name = "Between"
    types = "T -> T: float32"

    @dataclass(frozen=True)
    class Attrs:
        low: float = 0.0
        high: float = 1.0

    def infer(site):
        return [site.input(0).shape]

    def evaluate(site, x):
        return between(site, x)

    def lower(b, site, xs, ys):
        b.elementwise(ys[0], lambda x: between(site, x), xs[0])


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "users", {})


def model_bytes(name: str, options: bytes = b"", shape=(1, 4)) -> bytes:
    x, y = Tensor("x", TensorType(FLOAT32, (1, 4)), index=0), Tensor("y", TensorType(FLOAT32, shape), index=1)
    node = Node(unknown(name, None), {}, [x], [y], 0, {"version": 1, "custom_options": options})
    return tflite.write(Module([Graph("main", [x], [y], [x, y], [node])]))


OPTIONS = flexbuffer.write({"low": -1, "high": 0.5})
EXPECTED = np.clip(X, -1, 0.5)


def test_a_registered_operator_runs_with_the_options_of_the_model():
    assert register_op(Between) is Between
    np.testing.assert_array_equal(lithe.load(model_bytes("Between", OPTIONS))(X), EXPECTED)
    np.testing.assert_array_equal(lithe.load(model_bytes("Between"))(X), np.clip(X, 0, 1))


def test_one_with_loops_is_compiled(caplog: pytest.LogCaptureFixture):
    register_op(Between)
    model = lithe.load(model_bytes("Between", OPTIONS))
    np.testing.assert_array_equal(model(X), EXPECTED)
    assert type(model._main.session()._executor).__name__ == "CompiledExecutor"
    assert "not compiled" not in caplog.text


@pytest.mark.skipif(c_backend.compiler() is None, reason="there is no C compiler")
def test_one_with_loops_is_printed_as_c():
    register_op(Between)
    program = lower(prepare(tflite.read(model_bytes("Between", OPTIONS)).main), GENERIC)
    np.testing.assert_array_equal(c_backend.run(program, [X])[0], EXPECTED)


def test_one_without_loops_is_evaluated():
    class Doubled(Op):
        name = "Doubled"

        def infer(site):
            return [site.input(0).shape]

        def evaluate(site, x):
            return [x + x]

    register_op(Doubled)
    np.testing.assert_array_equal(lithe.load(model_bytes("Doubled"))(X), X + X)


def test_its_compiled_code_is_not_kept():
    data = model_bytes("Between")
    register_op(Between)
    model = lithe.load(data)
    np.testing.assert_array_equal(model(X), np.clip(X, 0, 1))
    assert model._source.digest is None

    @register_op(replace=True)
    class Other(Between):
        def lower(b, site, xs, ys):
            b.elementwise(ys[0], lambda x: -x, xs[0])

    np.testing.assert_array_equal(lithe.load(data)(X), -X)


def test_options_in_bytes_of_its_own():
    @register_op
    class Packed(Between):
        name = "Packed"

        def parse_options(data):
            return Between.Attrs(*struct.unpack("<2f", data))

    np.testing.assert_array_equal(lithe.load(model_bytes("Packed", struct.pack("<2f", -1, 0.5)))(X), EXPECTED)
    with pytest.raises(ModelError, match="options of Packed cannot be read"):
        lithe.load(model_bytes("Packed", b"abc"))

    @register_op
    class Careful(Packed):
        name = "Careful"

        def parse_options(data):
            raise ModelError("a version that is not known")

    with pytest.raises(ModelError, match="a version that is not known"):
        lithe.load(model_bytes("Careful"))


@pytest.mark.parametrize("given", [[Between], [lambda ops: ops.add(Between)]], ids=["class", "function"])
def test_an_interpreter_may_have_operators_of_its_own(given):
    interpreter = InterpreterWithCustomOps(given, model_content=model_bytes("Between", OPTIONS))
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, X)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(1), EXPECTED)
    assert REGISTRY.users == {}


def test_an_interpreter_takes_nothing_else():
    with pytest.raises(InputError, match="is a Python function, got 'symbol'"):
        InterpreterWithCustomOps(["symbol"], model_content=model_bytes("Between"))
    with pytest.raises(InputError, match=r"derived from lithe.Op"):
        InterpreterWithCustomOps([int], model_content=model_bytes("Between"))


def test_types_and_shapes_of_the_model_are_checked():
    @register_op
    class Whole(Between):
        name, types = "Whole", "T -> T: int32"

    with pytest.raises(UnsupportedOp, match="no rule for these types"):
        lithe.load(model_bytes("Whole"))(X)

    @register_op
    class Square(Between):
        name = "Square"

        def infer(site):
            site.require(site.input(0).shape[0] == site.input(0).shape[1], "must be square", 0)

    with pytest.raises(ModelError, match=r"must be square\n.*op #0 Square, input 0 'input'"):
        lithe.load(model_bytes("Square"))


RETURNED = [
    (lambda x: x.astype(np.float64), r"Wrong.evaluate returned float64\[1, 4\] for output 0, which is float32\[1, 4\]"),
    (lambda x: x[0], r"Wrong.evaluate returned float32\[4\] for output 0"),
    (lambda x: [x, x], "Wrong.evaluate returned 2 arrays for 1 outputs"),
    (lambda x: x.reshape(7), "cannot be computed: cannot reshape"),
]


@pytest.mark.parametrize(("function", "problem"), RETURNED, ids=["dtype", "shape", "number", "failure"])
def test_what_evaluate_returns_is_checked(function, problem):
    @register_op
    class Wrong(Op):
        name = "Wrong"

        def infer(site):
            return [site.input(0).shape]

        def evaluate(site, x):
            return function(x)

    with pytest.raises(ExecutionError, match=problem) as error:
        lithe.load(model_bytes("Wrong"))(X)
    assert error.value.where.startswith("op #0 Wrong")


def test_a_broken_rule_in_evaluate_names_the_place():
    @register_op
    class Picky(Between):
        name, lower = "Picky", None

        def evaluate(site, x):
            raise RuleViolation("must not be negative", "input")

    with pytest.raises(ExecutionError, match="must not be negative"):
        lithe.load(model_bytes("Picky"))(X)


class Plain(Op):
    name = "Plain"

    def infer(site):
        return []


FULL = {"name": "Full", "infer": lambda site: [], "evaluate": lambda site: []}
REFUSED = [
    (int, "derived from"),
    ("Plain", "derived from"),
    (type("A", (Op,), {**FULL, "name": ""}), "has no `name`"),
    (type("A", (Op,), {k: v for k, v in FULL.items() if k != "name"}), "has no `name`"),
    (type("A", (Op,), {**FULL, "code": 3}), "`code` is for builtins"),
    (Plain, r"has no `evaluate\(site, \*arrays\)`"),
    (type("A", (Op,), {**FULL, "infer": None}), r"has no `infer\(site\)`"),
    (type("A", (Op,), {**FULL, "Attrs": int}), "`Attrs` must be a dataclass"),
    (type("A", (Op,), {**FULL, "operands": ("x", "y")}), "`operands` must be two tuples"),
    (type("A", (Op,), {**FULL, "types": "T -> T: float"}), "'float', which is no element type"),
    (type("A", (Op,), {**FULL, "name": "ADD"}), "'ADD' is an operator of Lithe itself"),
]


@pytest.mark.parametrize(("op", "problem"), REFUSED)
def test_what_cannot_be_an_operator_is_refused(op, problem):
    with pytest.raises(InputError, match=problem):
        register_op(op)


def test_a_name_is_taken_once_but_a_class_may_be_defined_anew():
    def defined():
        return type("Between", (Between,), {"__module__": "notebook", "__qualname__": "Between"})

    register_op(defined())
    second = register_op(defined())
    assert REGISTRY.users["Between"] is second
    with pytest.raises(InputError, match=r"'Between' is taken by notebook.Between\n.*\n.*replace=True"):
        register_op(Between)
    assert register_op(replace=True)(Between) is REGISTRY.users["Between"]
    unregister_op("Between")
    assert not lithe.load(model_bytes("Between")).module.main.nodes[0].op.known
    with pytest.raises(InputError, match="no operator 'Between' is registered"):
        unregister_op("Between")
