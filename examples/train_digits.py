"""Trains the digit classifier of `lithe demo`: a small convolutional network, in NumPy alone.

    python examples/train_digits.py [--folder src/lithe/data] [--epochs 60] [--seed 7]

The data are scikit-learn's 1797 handwritten digits of 8x8 pixels. A fifth of them is held out and
never seen by training or calibration; the demo classifies those. The script writes, to the folder:

    digits_float32.tflite   as trained
    digits_int8.tflite      after post-training quantization (int8, weights per channel)
    digits_held_out.npz     the held-out images (uint8, 0..16) and their labels
    digits.json             how they came to be: seed, sizes, accuracy, licences

The network: 3x3 convolution to 8 channels, 3x3 convolution of stride 2 to 16, a dense layer to 10.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import lithe
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops import REGISTRY
from lithe.types import FLOAT32, INT8, INT32, Quantization, TensorType

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]


@dataclass(frozen=True)
class Layer:
    """A convolution with SAME padding followed by ReLU. Filters are [out, height, width, in]."""

    name: str
    stride: int
    channels: int


CONVOLUTIONS = (Layer("conv1", 1, 8), Layer("conv2", 2, 16))
SIDE, CLASSES, KERNEL = 8, 10, 3


# --- data ---------------------------------------------------------------------------------------


def digits(seed: int) -> tuple[Array, npt.NDArray[np.int64], Array, npt.NDArray[np.int64]]:
    """(training images, labels, held-out images, labels); images [n, 8, 8, 1] in 0..1."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., None] / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    held = len(images) // 5
    test, train = order[:held], order[held:]
    return images[train], bunch.target[train], images[test], bunch.target[test]


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Each image moved by -1, 0 or 1 pixels in both directions, so that position is not learned by heart."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = rng.integers(0, 3, (len(images), 2))
    moves[rng.random(len(images)) < 0.5] = 1
    return np.stack([p[r : r + SIDE, c : c + SIDE] for p, (r, c) in zip(padded, moves, strict=True)])


# --- the network, forward and backward ------------------------------------------------------------


def same_padding(size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis, as SAME padding of the format places them."""
    total = max((-(-size // stride) - 1) * stride + KERNEL - size, 0)
    return total // 2, total - total // 2


def patches(x: Array, stride: int) -> Array:
    """[n, rows, columns, 3 * 3 * channels]: what each output pixel of a convolution sees."""
    pad = same_padding(x.shape[1], stride)
    padded = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), (1, 2))[:, ::stride, ::stride]
    return np.moveaxis(windows, 3, 5).reshape(*windows.shape[:3], -1)


def patches_gradient(g: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The gradient of `patches`: every window's share is added back to its place."""
    n, rows, columns, _ = g.shape
    pad = same_padding(shape[1], stride)
    grown = np.zeros((n, shape[1] + sum(pad), shape[2] + sum(pad), shape[3]), np.float32)
    g = g.reshape(n, rows, columns, KERNEL, KERNEL, shape[3])
    for i in range(KERNEL):
        for j in range(KERNEL):
            grown[:, i : i + rows * stride : stride, j : j + columns * stride : stride] += g[:, :, :, i, j]
    return grown[:, pad[0] : pad[0] + shape[1], pad[0] : pad[0] + shape[2]]


def initial_weights(rng: np.random.Generator) -> Weights:
    """He initialization."""
    weights: Weights = {}
    side, depth = SIDE, 1
    for layer in CONVOLUTIONS:
        fan = KERNEL * KERNEL * depth
        shape = (layer.channels, KERNEL, KERNEL, depth)
        weights[layer.name] = rng.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)
        weights[layer.name + "_bias"] = np.zeros(layer.channels, np.float32)
        side, depth = -(-side // layer.stride), layer.channels
    fan = side * side * depth
    weights["dense"] = rng.normal(0, fan**-0.5, (CLASSES, fan)).astype(np.float32)
    weights["dense_bias"] = np.zeros(CLASSES, np.float32)
    return weights


def forward(weights: Weights, x: Array) -> list[Array]:
    """[input, after each convolution, logits]."""
    values = [x]
    for layer in CONVOLUTIONS:
        filters = weights[layer.name].reshape(layer.channels, -1)
        values.append(np.maximum(patches(values[-1], layer.stride) @ filters.T + weights[layer.name + "_bias"], 0))
    values.append(values[-1].reshape(len(x), -1) @ weights["dense"].T + weights["dense_bias"])
    return values


def gradients(weights: Weights, x: Array, labels: npt.NDArray[np.int64]) -> Weights:
    """Gradient of the mean cross-entropy."""
    values = forward(weights, x)
    e = np.exp(values[-1] - values[-1].max(1, keepdims=True))
    g = e / e.sum(1, keepdims=True)
    g[np.arange(len(x)), labels] -= 1
    g /= len(x)
    result = {"dense": g.T @ values[-2].reshape(len(x), -1), "dense_bias": g.sum(0)}
    g = (g @ weights["dense"]).reshape(values[-2].shape)
    for layer, before, after in reversed(list(zip(CONVOLUTIONS, values, values[1:], strict=False))):
        g = g * (after > 0)
        seen = patches(before, layer.stride)
        result[layer.name] = np.tensordot(g, seen, ((0, 1, 2), (0, 1, 2))).reshape(weights[layer.name].shape)
        result[layer.name + "_bias"] = g.sum((0, 1, 2))
        g = patches_gradient(g @ weights[layer.name].reshape(layer.channels, -1), before.shape, layer.stride)
    return result


def train(x: Array, labels: npt.NDArray[np.int64], epochs: int, seed: int) -> Weights:
    """Adam with a learning rate that falls to zero along a cosine, and a little weight decay."""
    rng = np.random.default_rng(seed)
    weights = initial_weights(rng)
    first = {k: np.zeros_like(v) for k, v in weights.items()}
    second = {k: np.zeros_like(v) for k, v in weights.items()}
    batch, step, total = 64, 0, epochs * -(-len(x) // 64)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            chosen = order[start : start + batch]
            rate = 0.004 * 0.5 * (1 + np.cos(np.pi * step / total))
            step += 1
            for key, g in gradients(weights, shifted(x[chosen], rng), labels[chosen]).items():
                g = g + 1e-4 * weights[key]
                first[key] = 0.9 * first[key] + 0.1 * g
                second[key] = 0.999 * second[key] + 0.001 * g * g
                update = first[key] / (1 - 0.9**step) / (np.sqrt(second[key] / (1 - 0.999**step)) + 1e-8)
                weights[key] = (weights[key] - rate * update).astype(np.float32)
    return weights


# --- models ---------------------------------------------------------------------------------------


def quantized(values: Array, scale: npt.ArrayLike, low: int = -127, high: int = 127) -> npt.NDArray[np.int64]:
    return np.clip(np.rint(values / np.asarray(scale)), low, high).astype(np.int64)


def range_type(shape: tuple[int, ...], low: float, high: float) -> TensorType:
    """int8 with the scale and zero point that cover [low, high]; zero is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255))
    return TensorType(INT8, shape, Quantization((scale,), (int(np.rint(-128 - low / scale)),)))


def build(weights: Weights, activations: list[Array] | None) -> Module:
    """The model file's content: float32, or int8 with the ranges that the activations show."""
    tensors: list[Tensor] = []
    nodes: list[Node] = []

    def tensor(name: str, type: TensorType, data: np.ndarray | None = None) -> Tensor:
        signature = None if data is not None else (-1, *type.shape[1:])
        tensors.append(Tensor(name, type, data, shape_signature=signature, index=len(tensors)))
        return tensors[-1]

    def activation(name: str, shape: tuple[int, ...], position: int) -> Tensor:
        if activations is None:
            return tensor(name, TensorType(FLOAT32, shape))
        return tensor(name, range_type(shape, float(activations[position].min()), float(activations[position].max())))

    def contraction(op: str, name: str, x: Tensor, y: Tensor, per_channel: bool, **attrs: object) -> None:
        w, bias = weights[name], weights[name + "_bias"]
        if x.type.quantization is None:
            operands = [tensor(name, TensorType(FLOAT32, w.shape), w)]
            operands.append(tensor(name + "_bias", TensorType(FLOAT32, bias.shape), bias))
        else:
            axes = tuple(range(1, w.ndim)) if per_channel else None
            scale = (np.abs(w).max(axis=axes) / 127).astype(np.float32).reshape(-1)
            stored = quantized(w, scale.reshape(-1, *[1] * (w.ndim - 1))).astype(np.int8)
            scales = tuple(map(float, scale))
            operands = [tensor(name, TensorType(INT8, w.shape, Quantization(scales, (0,) * len(scales))), stored)]
            product = (scale * np.float32(x.type.quantization.scale[0])).astype(np.float32)
            products = Quantization(tuple(map(float, product)), (0,) * len(product))
            stored = quantized(bias, product, -(2**31) + 1, 2**31 - 1).astype(np.int32)
            operands.append(tensor(name + "_bias", TensorType(INT32, bias.shape, products), stored))
        operator = REGISTRY.by_name[op]
        nodes.append(Node(operator, operator.Attrs(**attrs), [x, *operands], [y], len(nodes)))

    x = first = activation("image", (1, SIDE, SIDE, 1), 0)
    for position, layer in enumerate(CONVOLUTIONS, 1):
        side = -(-x.type.shape[1] // layer.stride)
        y = activation(layer.name + "_out", (1, side, side, layer.channels), position)
        strides = {"stride_w": layer.stride, "stride_h": layer.stride}
        contraction("CONV_2D", layer.name, x, y, True, padding="SAME", fused_activation_function="RELU", **strides)
        x = y
    logits = activation("logits", (1, CLASSES), len(CONVOLUTIONS) + 1)
    contraction("FULLY_CONNECTED", "dense", x, logits, False)
    fixed = None if activations is None else Quantization((1 / 256,), (-128,))
    result = tensor("probability", TensorType(FLOAT32 if fixed is None else INT8, (1, CLASSES), fixed))
    softmax = REGISTRY.by_name["SOFTMAX"]
    nodes.append(Node(softmax, softmax.Attrs(beta=1.0), [logits], [result], len(nodes)))
    graph = Graph("main", [first], [result], tensors, nodes)
    signature = Signature("serving_default", {"image": first}, {"probability": result})
    return Module([graph], [signature], description="Handwritten digits, 8x8 pixels (examples/train_digits.py)")


def right(path: Path, images: Array, labels: npt.NDArray[np.int64]) -> int:
    """How many images a written model classifies rightly."""
    model = lithe.load(path)
    info = model.inputs["image"]
    values = info.quantize(images) if info.quantization else images
    answers = [int(np.asarray(model(value[None])).argmax()) for value in values]
    return int((np.array(answers) == labels).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "src" / "lithe" / "data")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    x, labels, held_x, held_labels = digits(options.seed)
    weights = train(x, labels, options.epochs, options.seed)
    known = int((forward(weights, held_x)[-1].argmax(1) == held_labels).sum())
    print(f"as trained: {known} of {len(held_x)} held-out digits right")

    options.folder.mkdir(parents=True, exist_ok=True)
    models = {}
    for name, activations in (("float32", None), ("int8", forward(weights, x))):
        path = options.folder / f"digits_{name}.tflite"
        path.write_bytes(tflite.write(build(weights, activations)))
        models[path.name] = {"bytes": path.stat().st_size, "right_of_held_out": right(path, held_x, held_labels)}
    np.savez_compressed(
        options.folder / "digits_held_out.npz",
        image=np.rint(held_x[..., 0] * 16).astype(np.uint8),
        label=held_labels.astype(np.uint8),
    )
    facts = {
        "script": "examples/train_digits.py",
        "seed": options.seed,
        "epochs": options.epochs,
        "training_digits": len(x),
        "held_out_digits": len(held_x),
        "models": models,
        "dataset": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI Machine Learning "
        "Repository, 1998, https://doi.org/10.24432/C50P49), as distributed with scikit-learn",
        "dataset_licence": "CC BY 4.0",
        "models_licence": "Apache-2.0",
    }
    (options.folder / "digits.json").write_text(json.dumps(facts, indent=2) + "\n")
    for name, model in models.items():
        print(f"{name}: {model['bytes']} bytes, {model['right_of_held_out']} of {len(held_x)} held-out digits right")


if __name__ == "__main__":
    main()
