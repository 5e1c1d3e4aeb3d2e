"""What the loop language's own functions find in expressions and statements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lithe.ir.affine import affine, affine_place, computed, never, same_for_all, sum_of
from lithe.ir.loops import (
    INDEX,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Load,
    Store,
    Unary,
    Var,
    binary,
    constant,
    nodes,
    select,
)
from lithe.types import BOOL, FLOAT32, INT64

I, J = Var("i"), Var("j")


@pytest.mark.parametrize(
    ("op", "a", "b", "result"),
    [
        ("add", I, 0, I), ("add", 0, I, I), ("sub", I, 0, I), ("mul", I, 1, I), ("mul", 1, I, I), ("div", I, 1, I),
        ("mul", I, 0, 0), ("mul", 0, I, 0), ("mod", I, 1, 0),
        ("add", 2, 3, 5), ("sub", 2, 3, -1), ("mul", 2, 3, 6), ("div", 7, 2, 3), ("mod", 7, 4, 3),
    ],
)  # fmt: skip
def test_trivial_index_sums_are_simplified(op: str, a: Expr | int, b: Expr | int, result: Expr | int) -> None:
    found = binary(op, constant(a), constant(b))
    if isinstance(result, Expr):
        assert found is result
    else:
        assert isinstance(found, Const)
        assert (found.value, found.dtype) == (result, INDEX)


@pytest.mark.parametrize(
    ("op", "a", "b"),
    [
        ("sub", 0, I), ("div", 1, I), ("div", 0, I), ("mod", I, 0), ("mod", 1, I), ("add", I, J), ("min", I, 1),
        ("div", -7, 2), ("mod", -7, 2), ("div", 7, 0), ("mod", 7, 0), ("min", 2, 3), ("shl", I, 0),
    ],
)  # fmt: skip
def test_others_stay(op: str, a: Expr | int, b: Expr | int) -> None:
    found = binary(op, constant(a), constant(b))
    assert isinstance(found, Binary)
    assert found.op == op


def test_only_index_sums_are_simplified() -> None:
    x = Load(Buffer("x", FLOAT32, (4,)), (I,))
    assert isinstance(binary("add", x, 0.0), Binary)
    assert isinstance(binary("add", Load(Buffer("n", INT64, (4,)), (I,)), 0), Binary)
    with pytest.raises(TypeError, match="cast one of them"):
        binary("add", x, I)


def test_nodes_are_found_once_and_operands_first() -> None:
    shared = I * 2
    found = nodes((shared + J, shared + 1))
    assert [x for x in found if x is shared] == [shared]
    places = {id(x): n for n, x in enumerate(found)}
    assert len(places) == len(found)
    assert all(places[id(y)] < places[id(x)] for x in found if isinstance(x, Binary) for y in (x.a, x.b))


def test_a_walk_ends_at_what_is_known() -> None:
    shared = I * 2
    found = nodes((shared + J,), {shared: None})
    assert shared not in found
    assert I not in found
    assert J in found


def test_what_a_statement_computes_is_found_once_and_is_all_but_sums_that_index() -> None:
    x, places = Buffer("x", FLOAT32, (8,)), Buffer("places", INT64, (8,))
    place, rest = places[I * 2], J % 3
    value = x[place + (rest + 1)] * 2.0
    s = Store(x, (I + 1,), value)
    found = computed(s)
    sums = {*nodes((*s.index, *place.index)), J, constant(3), constant(1)}
    assert list(found) == [y for y in nodes((*s.index, value)) if y not in sums]
    assert computed(s) is found
    assert computed(For(I, 7, (s,))) == ()


def test_a_sum_of_variables_is_found_once() -> None:
    x = (I * 3 + J) * 2 - (I + 4)
    assert sum_of(x) == ({I: 5, J: 2}, -4)
    assert sum_of(x) is sum_of(x)
    assert sum_of(I) == ({I: 1}, 0)
    assert sum_of(constant(7)) == ({}, 7)
    assert [sum_of(y) for y in (I * J, I % 3, I + J // 2, Load(Buffer("x", INT64, (4,)), (I,)))] == [None] * 4


def test_equal_indices_are_one_node() -> None:
    assert constant(3) is constant(3)
    assert constant(True) is not constant(1)
    assert constant(3, INT64) is not constant(3)


def test_the_place_of_an_element_is_the_sum_of_its_axes() -> None:
    shape, index = (3, 4, 5), (I * 2 + 1, J - I, constant(3))
    flat: Expr = constant(0)
    for i, size in zip(index, shape, strict=True):
        flat = flat * size + i
    assert affine_place(shape, index, never, {}) == affine(flat) == ({I: 35, J: 5}, 23)
    assert affine_place((), (), never, {}) == ({}, 0)


def test_terms_of_a_place_may_be_opaque() -> None:
    table = Buffer("table", INT64, (4,))
    loaded = Load(table, (J,))
    opaque = same_for_all(I, set())
    known: dict = {}
    found = affine_place((4, 5), (binary("div", J, 3), I), opaque, known)
    assert found is not None
    assert sorted(found[0].values()) == [1, 5]
    assert affine_place((4, 5), (binary("div", I, 3), I), opaque, known) is None
    assert affine_place((4,), (binary("div", J, 3),), never, {}) is None
    assert affine_place((4,), (loaded,), opaque, {}) == ({loaded: 1}, 0)


def test_types_follow_from_operands() -> None:
    x = Load(Buffer("x", FLOAT32, (4,)), (I,))
    deep = x
    for _ in range(5000):  # deeper than Python may recurse
        deep = deep + x
    assert deep.dtype is FLOAT32
    assert Unary("neg", deep).dtype is FLOAT32
    assert (deep < x).dtype is BOOL
    assert select(deep < x, I, J).dtype is INDEX
    assert replace(I + J, op="mul").dtype is INDEX
