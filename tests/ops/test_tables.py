"""Tables in whole models, against the official runtime; what tables and embeddings refuse; known hashes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.formats.tflite import write
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.lite import Interpreter
from lithe.ops import REGISTRY, RuleViolation
from lithe.ops.farm_hash import fingerprint_of
from lithe.ops.hash_tables import Table
from lithe.types import FLOAT32, INT64, RESOURCE, STRING, DType, TensorType, dtype_of
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_shape import kind
from tests.ops.cases_tables import HANDLE, WORDS, filled, table


class Drawing:
    """A graph that is put together node by node."""

    def __init__(self, *inputs: TensorType) -> None:
        self.graph = Graph("", [], [], [], [])
        self.inputs = [self.tensor(t) for t in inputs]
        self.graph.inputs = list(self.inputs)

    def tensor(self, type: TensorType, data: np.ndarray | None = None) -> Tensor:
        number = len(self.graph.tensors)
        self.graph.tensors.append(Tensor(f"t{number}", type, data, index=number))
        return self.graph.tensors[-1]

    def constant(self, value: Any, dtype: DType | None = None) -> Tensor:
        data = np.array(value, None if dtype is None else dtype.numpy)
        return self.tensor(TensorType(dtype or dtype_of(data), data.shape), data)

    def add(self, op: str, inputs: list[Tensor], *outputs: TensorType, **attrs: Any) -> list[Tensor]:
        kind = REGISTRY.by_name[op]
        results = [self.tensor(t) for t in outputs]
        self.graph.nodes.append(Node(kind, kind.Attrs(**attrs), list(inputs), results, len(self.graph.nodes)))
        return results


def dictionary(keys: np.ndarray, values: np.ndarray, wanted: int, *, filling: bool = True) -> bytes:
    """A model that looks up `wanted` keys in a table, which a graph called once fills."""
    types = {"key_dtype": dtype_of(keys), "value_dtype": dtype_of(values), "table_id": 5}
    main = Drawing(TensorType(types["key_dtype"], (wanted,)))
    if filling:
        main.add("CALL_ONCE", [], init_subgraph_index=1)
    (handle,) = main.add("HASHTABLE", [], HANDLE, **types)
    default = main.constant([b"?"] if types["value_dtype"] is STRING else [-1], types["value_dtype"])
    main.graph.outputs = [
        *main.add("HASHTABLE_FIND", [handle, *main.inputs, default], TensorType(types["value_dtype"], (wanted,))),
        *main.add("HASHTABLE_SIZE", [handle], TensorType(INT64, (1,))),
    ]
    once = Drawing()
    (handle,) = once.add("HASHTABLE", [], HANDLE, **types)
    pairs = [once.constant(keys, types["key_dtype"]), once.constant(values, types["value_dtype"])]
    once.add("HASHTABLE_IMPORT", [handle, *pairs])
    once.add("HASHTABLE_IMPORT", [handle, pairs[0], once.constant(values[::-1], types["value_dtype"])])
    return write(Module([main.graph, once.graph]))


def answers(interpreter: Any, keys: np.ndarray, runs: int = 2) -> list[list[Any]]:
    interpreter.allocate_tensors()
    results = []
    for _ in range(runs):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], keys)
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"]).tolist() for d in interpreter.get_output_details()])
    return results


TEXTS, NUMBERS = np.array([b"one", b"two", b"one", b""], object), np.array([1, 2, 3, -(1 << 40)])


@pytest.mark.parametrize(
    ("keys", "values", "wanted", "expected"),
    [
        (TEXTS, NUMBERS, [b"two", b"no", b"one", b""], [[2, -1, 1, -(1 << 40)], [3]]),
        (NUMBERS, TEXTS, [3, 7, -(1 << 40), 1], [[b"one", b"?", b"", b"one"], [4]]),
    ],
    ids=["words", "numbers"],
)
def test_models_look_up_as_the_official_runtime(
    keys: np.ndarray, values: np.ndarray, wanted: list[Any], expected: list[Any]
) -> None:
    content = dictionary(keys, values, len(wanted))
    given = np.array(wanted, keys.dtype)
    assert answers(Interpreter(model_content=content), given) == [expected, expected]
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    assert answers(official.Interpreter(model_content=content), given) == [expected, expected]


def test_a_table_is_filled_before_it_is_looked_up() -> None:
    content = dictionary(TEXTS, NUMBERS, 1, filling=False)
    with pytest.raises(ExecutionError, match="before anything was put into it"):
        answers(Interpreter(model_content=content), np.array([b"x"], object))


def evaluate(case: Case, **changes: Any) -> list[np.ndarray]:
    results: list[np.ndarray] = case.operator.evaluate(replace(case.site(), **changes), *case.arrays())
    return results


def test_handles_and_types_are_checked() -> None:
    size = table("HASHTABLE_SIZE", "none", (), (kind("int64", 1),))
    with pytest.raises(ExecutionError, match="names no table"):
        evaluate(size)
    with pytest.raises(RuleViolation, match="needs the whole model"):
        evaluate(size, environment=None)
    find = table("HASHTABLE_FIND", "other", (kind("int64", 3), kind("string")), (kind("string", 3),),
                 **filled(STRING, INT64, WORDS))  # fmt: skip
    with pytest.raises(ExecutionError, match="maps string to int64, the operator int64 to string"):
        evaluate(find)


def test_a_table_is_filled_once() -> None:
    filling = table("HASHTABLE_IMPORT", "once", (kind("string", 2), kind("int64", 2)), (),
                    values={1: np.array([b"one", b"two"], object), 2: np.array([7, 8])},
                    **filled(STRING, INT64, dict(WORDS)))  # fmt: skip
    site = filling.site()
    filling.operator.evaluate(site, *filling.arrays())
    assert site.surroundings().resources["table:3"] == Table(STRING, INT64, WORDS)


EMBEDDING = (i32(2), i32(2, 2), i32(2), f32(2), f32(4, 3))
SHAPED = {"constants": {2: np.array([3, 1])}}


def embedding(ids: list[int], places: list[list[int]], shape: list[int]) -> Case:
    given = {0: np.array(ids), 1: np.array(places), 2: np.array(shape)}
    return Case("EMBEDDING_LOOKUP_SPARSE", "bad", EMBEDDING, (f32(3, 3),), values=given)


def test_embeddings_of_places_that_do_not_exist() -> None:
    for case in (
        embedding([0, 4], [[0, 0], [1, 0]], [3, 1]),
        embedding([-1, 0], [[0, 0], [1, 0]], [3, 1]),
        embedding([0, 1], [[0, 0], [3, 0]], [3, 1]),
        embedding([0, 1], [[-1, 0], [2, 0]], [3, 1]),
    ):
        with pytest.raises(ExecutionError, match="ids must name rows"):
            evaluate(case)
    for size in (-1, 1 << 28):
        with pytest.raises(ExecutionError, match="asks for a result that cannot be"):
            evaluate(embedding([0, 1], [[0, 0], [0, 0]], [size, 1]))


def test_an_embedding_may_find_its_shape_later() -> None:
    case = Case("EMBEDDING_LOOKUP_SPARSE", "open", EMBEDDING, (f32(3, 3),))
    assert case.operator.infer(case.site()) == [(None, 3)]


@pytest.mark.parametrize(
    ("words", "op", "inputs", "more"),
    [
        ("keys must be one of", "HASHTABLE", (), {"attrs": {"key_dtype": FLOAT32}}),
        ("values must be one of", "HASHTABLE", (), {"attrs": {"value_dtype": RESOURCE}}),
        ("must have one element", "HASHTABLE_SIZE", (TensorType(RESOURCE, (2,)),), {}),
        ("are the keys", "HASHTABLE_IMPORT", (HANDLE, kind("string", 2), kind("int64", 3)), {}),
        ("must have an element", "HASHTABLE_FIND", (HANDLE, kind("string", 2), kind("int64", 0)), {}),
        ("must have rows", "HASHTABLE_LOOKUP", (i32(2), i32(1), f32()), {}),
        ("must have a row for each", "HASHTABLE_LOOKUP", (i32(2), i32(3), f32(2)), {}),
        ("must have a row for each", "EMBEDDING_LOOKUP_SPARSE", (i32(3), *EMBEDDING[1:]), {}),
        ("must have one for each", "EMBEDDING_LOOKUP_SPARSE", (*EMBEDDING[:3], f32(1), f32(4, 3)), {}),
        ("must have a size for each", "EMBEDDING_LOOKUP_SPARSE", (*EMBEDDING[:2], i32(3), *EMBEDDING[3:]), {}),
        ("rank must be at least 2", "EMBEDDING_LOOKUP_SPARSE", (*EMBEDDING[:4], f32(4)), {}),
        ("must not be negative", "EMBEDDING_LOOKUP_SPARSE", EMBEDDING, {"constants": {2: np.array([-1, 2])}}),
        ("at most 32 bits", "LSH_PROJECTION", (f32(1, 33), i32(2)), {}),
        ("must have items", "LSH_PROJECTION", (f32(1, 3), i32(0)), {}),
        ("must have one for each", "LSH_PROJECTION", (f32(1, 3), i32(2), f32(3)), {}),
        ("an item must have at most", "LSH_PROJECTION", (f32(1, 3), i32(2, 1 << 14)), {}),
        ("bytes are to be hashed", "LSH_PROJECTION", (f32(1 << 10, 32), i32(1 << 16)), {}),
        ("type must be", "LSH_PROJECTION", (f32(1, 3), i32(2)), {"attrs": {"type": "UNKNOWN"}}),
    ],
)
def test_rules(words: str, op: str, inputs: tuple[TensorType, ...], more: dict[str, Any]) -> None:
    case = Case(op, "refused", inputs, (i32(1),), **more)
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0x9AE16A3B2F90404F),
        (b"a", 0xB3454265B6DF75E3),
        (b"word", 0xE4F7876374C312C0),
        (b"Hello, world!", 0x307C26B3E0789A47),
        (b"x" * 20, 0x7241CE1F8EF74DC4),
        (b"y" * 50, 0x155117882C131013),
        (b"x" * 100, 0x5B7616B854568A1F),
        (b"0123456789" * 20, 0x861A2CA290DC8395),
    ],
)
def test_fingerprints_are_those_of_the_farmhash_library(text: bytes, expected: int) -> None:
    assert fingerprint_of(text) == expected
