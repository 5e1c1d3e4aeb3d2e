"""Damaged models, each a pure function of its number; run as a program it loads, allocates and invokes a range of them.

    python -m tests.hostile.mutants FIRST LAST       prints "begin N" and "end N verdict seconds" lines

A verdict is accept, reject, or foreign (an exception outside of Lithe's errors). A crash or a hang ends the process.
"""

from __future__ import annotations

import copy
import random
import struct
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from lithe.formats import flatbuffer, flatbuffer_write
from lithe.formats.schema import TFLITE, Field
from lithe.formats.tflite import write
from lithe.formats.tflite.sparsity import compressed
from lithe.formats.tflite.tables import Table
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops import REGISTRY
from lithe.types import FLOAT32, INT8, INT32, UINT8, Quantization, TensorType

EDGES = (0, -1, 1, 2, 3, 7, 127, 255, 32767, 65536, 2**31 - 1, -(2**31), 2**30, 46341, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))
SECONDS = 20  # for one mutant
MEMORY = 4 << 30


class Sketch:
    """A graph in the making."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []

    def tensor(self, shape: tuple[int, ...], dtype: Any = FLOAT32, data: Any = None, q: Any = None) -> Tensor:
        array = None if data is None else np.broadcast_to(np.asarray(data, dtype.numpy), shape).copy()
        quantization = None if q is None else Quantization((q,), (0,))
        t = Tensor(f"t{len(self.tensors)}", TensorType(dtype, shape, quantization), array, index=len(self.tensors))
        self.tensors.append(t)
        return t

    def node(self, name: str, inputs: list[Tensor], *outputs: Tensor, **attrs: Any) -> Tensor:
        op = REGISTRY.by_name[name]
        self.nodes.append(Node(op, op.Attrs(**attrs), list(inputs), list(outputs), len(self.nodes)))
        return outputs[0]

    def finish(self, inputs: list[Tensor], outputs: list[Tensor]) -> bytes:
        graph = Graph("main", inputs, outputs, self.tensors, self.nodes)
        signature = Signature("serve", {t.name: t for t in inputs}, {t.name: t for t in outputs})
        return write(Module([graph], [signature], {"note": b"a note"}))


def picture() -> bytes:
    """int8: convolution, fully connected, logistic."""
    s = Sketch()
    x, w, b = s.tensor((1, 6, 6, 2), INT8, q=0.5), s.tensor((4, 3, 3, 2), INT8, 3, 0.1), s.tensor((4,), INT32, 9, 0.05)
    y = s.node("CONV_2D", [x, w, b], s.tensor((1, 2, 2, 4), INT8, q=1.0), padding="VALID", stride_w=2, stride_h=2)
    shape = s.tensor((2,), INT32, [1, 16])
    flat = s.node("RESHAPE", [y, shape], s.tensor((1, 16), INT8, q=1.0))
    weights, bias = s.tensor((3, 16), INT8, 5, 0.1), s.tensor((3,), INT32, 1, 0.1)
    out = s.node("FULLY_CONNECTED", [flat, weights, bias], s.tensor((1, 3), INT8, q=1.0))
    return s.finish([x], [s.node("LOGISTIC", [out], s.tensor((1, 3), INT8, q=1 / 256))])


def indices() -> bytes:
    """Operators whose constants are positions."""
    s = Sketch()
    x = s.tensor((4, 6))
    picked = s.node("GATHER", [x, s.tensor((3,), INT32, [0, 2, 3])], s.tensor((3, 6)), axis=0)
    paddings = s.tensor((2, 2), INT32, [[0, 1], [1, 0]])
    padded = s.node("PAD", [picked, paddings], s.tensor((4, 7)))
    begin, end, strides = (s.tensor((2,), INT32, v) for v in ([0, 1], [4, 7], [1, 2]))
    cut = s.node("STRIDED_SLICE", [padded, begin, end, strides], s.tensor((4, 3)))
    turned = s.node("TRANSPOSE", [cut, s.tensor((2,), INT32, [1, 0])], s.tensor((3, 4)))
    left, right = s.tensor((3, 2)), s.tensor((3, 2))
    s.node("SPLIT", [s.tensor((), INT32, 1), turned], left, right, num_splits=2)
    return s.finish([x], [s.node("CONCATENATION", [left, right, left], s.tensor((3, 6)), axis=1)])


def sums() -> bytes:
    """float32: broadcast, reduction, softmax."""
    s = Sketch()
    x, y = s.tensor((2, 5)), s.tensor((2, 1))
    total = s.node("ADD", [x, y], s.tensor((2, 5)))
    scaled = s.node("MUL", [total, s.tensor((5,), data=[1, 2, 3, 4, 5])], s.tensor((2, 5)))
    mean = s.node("MEAN", [scaled, s.tensor((1,), INT32, 1)], s.tensor((2, 1)), keep_dims=True)
    centred = s.node("SUB", [scaled, mean], s.tensor((2, 5)))
    return s.finish([x, y], [s.node("SOFTMAX", [centred], s.tensor((2, 5)), beta=1.0), mean])


def stored() -> bytes:
    """float32: weights without their zeros, weights as indices into a table, and as a table for microcontrollers."""
    s = Sketch()
    x, few = s.tensor((1, 16)), np.arange(256).reshape(16, 16) % 7 * 0.5
    sparse, micro = s.tensor((16, 16), data=few * (few > 2)), s.tensor((8, 16), INT8, few[:8], 0.1)
    sparse.extras["sparsity"] = compressed(sparse.data, 4)
    micro.extras["table"] = Table(3)
    y = s.node("FULLY_CONNECTED", [x, s.node("DENSIFY", [sparse], s.tensor((16, 16)))], s.tensor((1, 16)))
    indices, numbers = s.tensor((16, 16), UINT8, few * 2), s.tensor((16, 16), INT32)
    s.node("CAST", [indices], numbers, in_data_type=UINT8, out_data_type=INT32)
    found = s.node("GATHER", [s.tensor((7,), data=range(7)), numbers], s.tensor((16, 16)))
    z = s.node("FULLY_CONNECTED", [y, found], s.tensor((1, 16)))
    return s.finish([x], [s.node("FULLY_CONNECTED", [z, micro], s.tensor((1, 8)))])


@lru_cache(None)
def seeds() -> tuple[bytes, ...]:
    return picture(), indices(), sums(), stored()


def places(table: str, record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Field]]:
    """Every field of every table that is there."""
    for f in TFLITE.tables[table]:
        yield record, f
        value = record[f.name]
        if value is None:
            continue
        if f.kind == "union":
            yield from places(*value)
        elif f.kind == "table":
            for child in value if f.vector else [value]:
                yield from places(f.type, child)


def number(f: Field, draw: random.Random) -> Any:
    if f.wire == "bool":
        return draw.random() < 0.5
    if f.wire.startswith("f"):
        return draw.choice(FLOATS)
    if f.kind == "enum" and draw.random() < 0.8:
        return draw.choice(list(TFLITE.enums[f.type].values))
    return draw.choice(EDGES)


def changed(f: Field, value: Any, draw: random.Random) -> Any:
    """Another value for a field."""
    if f.wire and not f.vector:
        return number(f, draw)
    if value is None or draw.random() < 0.1:
        return None if not f.vector else []
    if f.kind == "string" and not f.vector:
        return draw.choice(["", "x" * 300, "\0"])
    if not f.vector:
        return None
    items = list(value) if not isinstance(value, np.ndarray) else value.tolist()
    at = draw.randrange(len(items)) if items else 0
    match draw.randrange(4):
        case 0:
            items = items[:at]
        case 1 if items:
            items = [*items[:at], items[at], *items[at:]]
        case 2 if items and f.wire:
            items[at] = draw.randrange(256) if f.wire == "u8" else number(f, draw)
        case _:
            items = items[::-1]
    return items


def bytes_mutant(data: bytes, draw: random.Random) -> bytes:
    d = bytearray(data)
    at = draw.randrange(len(d))
    match draw.randrange(4):
        case 0:
            d[at] ^= 1 << draw.randrange(8)
        case 1:
            struct.pack_into("<I", d, min(at, len(d) - 4) & ~3, draw.choice((0, 1, 2**31, 2**32 - 1, len(d))))
        case 2:
            del d[at:]
        case _:
            d[at : at + 16] = d[draw.randrange(len(d)) :][:16]
    return bytes(d)


def mutant(n: int) -> bytes:
    """Mutant number n."""
    draw = random.Random(n)
    seed = seeds()[n % len(seeds())]
    if draw.random() < 0.2:
        return bytes_mutant(seed, draw)
    while True:
        record = copy.deepcopy(flatbuffer.read(memoryview(seed), TFLITE))
        for _ in range(draw.choice((1, 1, 2, 3))):
            found = list(places("Model", record))
            # Every kind of field alike: there are many more tensors than operators.
            names = sorted({f.name for _, f in found})
            name = draw.choice(names)
            table, f = draw.choice([p for p in found if p[1].name == name])
            table[f.name] = changed(f, table[f.name], draw)
        try:
            return flatbuffer_write.write(record, TFLITE)
        except (TypeError, OverflowError, ValueError, KeyError, struct.error):
            continue  # the value does not fit the field: draw again


def run(n: int, compiled: bool) -> str:
    import lithe
    from lithe.lite import OpResolverType

    kind = OpResolverType.AUTO if compiled else OpResolverType.BUILTIN_REF
    try:
        it = lithe.Interpreter(model_content=mutant(n), num_threads=1, experimental_op_resolver_type=kind)
        it.allocate_tensors()
        draw = np.random.default_rng(0)
        for d in it.get_input_details():
            it.set_tensor(d["index"], (draw.random(tuple(d["shape"])) * 50).astype(d["dtype"]))
        it.invoke()
        for d in it.get_output_details():
            it.get_tensor(d["index"])
    except lithe.LitheError as e:
        return "reject " + type(e).__name__
    except Exception as e:
        import traceback

        traceback.print_exc()
        return f"foreign {type(e).__name__}: {e}"[:200].replace("\n", " ")
    return "accept -"


def main(first: int, last: int) -> None:
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for n in range(first, last):
        print("begin", n, flush=True)
        signal.alarm(SECONDS)
        start = time.perf_counter()
        verdict = run(n, compiled=n % 10 == 0)
        signal.alarm(0)
        print("end", n, round(time.perf_counter() - start, 3), verdict, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
