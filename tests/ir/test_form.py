"""Kernels of one form are one function, and nothing else is."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from lithe.codegen.llvm.emit import print_kernel
from lithe.formats import tflite
from lithe.ir.build import kernel
from lithe.ir.form import form, form_of, shape_of
from lithe.ir.loops import INDEX, Alloc, Binary, Buffer, Call, Cast, Const, For, Kernel, Load, Store, Var
from lithe.lower.lower import lower
from lithe.passes import prepare
from lithe.runtime.compilation import modules
from lithe.targets.cpu import GENERIC
from lithe.types import FLOAT32, INT8, INT32, INT64


def doubled(name: str = "x", value=2.0, op="mul", extent=8, kind="serial", dtype=FLOAT32, index=None) -> Kernel:
    """y[i] = x[i] op value"""
    x, y, i = Buffer(name, dtype, (8,)), Buffer("y" + name, dtype, (8,)), Var("i" + name)
    body = Store(y, (i,), Binary(op, Load(x, (i if index is None else index(i),)), Const(value, dtype)))
    return kernel("k" + name, (For(i, extent, (body,), kind),), "from " + name)


def test_names_do_not_matter():
    assert form(doubled("x")) == form(doubled("z"))
    assert hash(form(doubled("x"))) == hash(form(doubled("z")))


@pytest.mark.parametrize(
    "change",
    [
        {"value": 3.0}, {"value": -0.0}, {"op": "add"}, {"extent": 7}, {"kind": "vector"}, {"dtype": INT32, "value": 2},
        {"index": lambda i: Binary("add", i, Const(1, INDEX))}, {"index": lambda i: Const(0, INDEX)},
        {"index": lambda i: Cast(i, INT64)},
    ],
)  # fmt: skip
def test_everything_else_does(change):
    assert form(doubled()) != form(doubled(**change))


def test_how_a_sum_that_indexes_is_written_does_not_matter():
    assert form(doubled()) == form(doubled(index=lambda i: Binary("add", i, Const(0, INDEX))))
    assert form(doubled(index=lambda i: i * 2 + i)) == form(doubled(index=lambda i: i * 3))


def test_zeros_of_either_sign_are_two_numbers():
    assert form(doubled(value=0.0)) != form(doubled(value=-0.0))


def test_which_buffer_is_meant_matters():
    a, b, zero = Buffer("a", INT8, (4,)), Buffer("b", INT8, (4,)), (Const(0, INDEX),)
    table = Buffer("c", INT8, (4,), np.zeros(4, np.int8))

    def copies(first: Buffer, second: Buffer, *before: Alloc) -> object:
        return form(kernel("k", (*before, Store(first, zero, Load(second, zero)), Store(a, zero, Load(second, zero)))))

    forms = [copies(a, b), copies(b, b), copies(b, a), copies(a, table), copies(b, table), copies(b, a, Alloc(b))]
    forms += [copies(a, b.viewed((2, 2)).viewed((4,), INT8)), copies(a.viewed((2, 2)), b)]
    assert len(set(forms)) == len(forms)
    assert copies(a, b) == copies(a, Buffer("other", INT8, (4,)))


def test_the_text_of_a_failure_matters():
    def refusing(text: str) -> object:
        return form(kernel("k", (Call("fail_unless", (Const(False, INT8),), text),)))

    assert refusing("one") == refusing("one") != refusing("other")


@pytest.mark.parametrize("model", ["digits_int8", "digits_float32"])
def test_forms_tell_the_kernels_of_a_model_apart_as_their_texts_do(model):
    graph = prepare(tflite.read((files("lithe.data") / f"{model}.tflite").read_bytes()).main)
    first, second = lower(graph, GENERIC), lower(graph, GENERIC)
    kernels = [*first.kernels(), *second.kernels()]
    failures = {text: n + 1 for n, text in enumerate(first.messages())}
    texts = [print_kernel(k, "k", failures) for k in kernels]
    forms = [form(k) for k in kernels]
    for i, (text, one) in enumerate(zip(texts, forms, strict=True)):
        assert [text == t for t in texts] == [one == f for f in forms], kernels[i].source
    defined = "\n".join(text for _, text in modules(first)).count("define i32 @lithe_kernel")
    assert defined == len(set(forms))


def test_bodies_of_one_form_differ_in_their_storages_alone():
    first, second = doubled("x"), doubled("z")
    (form, storages), (same, others) = form_of(first.body), form_of(second.body)
    assert form == same
    assert shape_of(first.body) == shape_of(second.body)
    assert [b.name for b in storages] == ["yx", "x"]
    assert [b.name for b in others] == ["yz", "z"]
    assert form_of(doubled(value=3.0).body)[0] != form
    assert shape_of(doubled(extent=7).body) != shape_of(first.body)


@pytest.mark.parametrize("nested", [False, True])
def test_a_body_that_reads_an_index_from_memory_has_a_form_of_its_own(nested):
    def taken() -> tuple:
        table = Buffer("t", INT32, (8,), np.arange(8, dtype=np.int32))
        x, y, i = Buffer("x", FLOAT32, (8,)), Buffer("y", FLOAT32, (8,)), Var("i")
        place = Cast(Load(table, (i,)), INDEX)
        place = Binary("add", place, Const(0, INDEX)) if nested else place
        return (For(i, 8, (Store(y, (i,), Load(x, (place,))),)),)

    one, other = taken(), taken()
    assert form_of(one) == form_of(one)
    assert form_of(one)[0] != form_of(other)[0]
    assert shape_of(one) == shape_of(other)
