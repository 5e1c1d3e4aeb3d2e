"""Networks that PyTorch exports as ONNX, in the operator sets it knows: converted, and run in both runtimes."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import lithe  # noqa: E402
from tests.conversion import torch_models  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402


class Halving(torch.nn.Module):
    """A loop with a branch: scripted, so that both are exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(x.size(0)):
            if bool(y.sum() > 0):  # noqa: SIM108 - a branch
                y = y * 0.5 - 0.1
            else:
                y = y + 1.0
        return y


class Recurrent(torch.nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.layer = getattr(torch.nn, kind)(6, 8, **options)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)[0]


class Words(torch.nn.Module):
    """Rows of a table, masked, compared with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = torch.nn.Embedding(11, 6), torch.nn.LayerNorm(6)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.where((x > 3).unsqueeze(-1), self.norm(self.table(x)), 0.0)
        near = torch.matmul(y, y.transpose(1, 2)).softmax(-1)
        return near.topk(2, -1)[0], y.cumsum(1), torch.nn.functional.gelu(y)


class Larger(torch.nn.Module):
    """A picture twice as large, interpolated and by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.turned = torch.nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.convolution(x)
        wide = torch.nn.functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([wide, self.turned(y)], 1).mean(dim=(2, 3))


def exported(model: Any, inputs: tuple[Any, ...], operators: int, open_batch: bool = False) -> bytes:
    file = io.BytesIO()
    names = [f"x{i}" for i in range(len(inputs))]
    axes = {name: {0: "batch"} for name in names} if open_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is an older one, and says so
        torch.onnx.export(model, inputs, file, opset_version=operators, dynamo=False, input_names=names,
                          dynamic_axes=axes)  # fmt: skip
    return file.getvalue()


def agree(data: bytes, inputs: tuple[Any, ...]) -> lithe.Model:
    given = {f"x{i}": x.numpy() for i, x in enumerate(inputs)}
    want = onnxruntime.InferenceSession(data).run(None, given)
    made = lithe.convert(onnx.load_from_string(data))
    got = made(**given)
    for results in (list(got.values()) if isinstance(got, dict) else [got], run_official(made, given)):
        for a, e in zip(results, want, strict=True):
            assert a.shape == e.shape
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * max(1.0, float(np.abs(e).max())))
    return made


# a network of `torch_models`, the operator set, and the transpositions that are left at most
LARGE = [("resnet", 11, 1), ("densenet", 12, 1), ("mobilenet_v3", 13, 1), ("gpt with a cache", 14, 1),
         ("efficientnet", 15, 1), ("convnext", 16, 1), ("text encoder", 17, 12), ("swin", 18, 13), ("detector", 19, 1),
         ("u-net", 20, 2)]  # fmt: skip


@pytest.mark.parametrize(("name", "operators", "turned"), LARGE, ids=[f"{n}-{o}" for n, o, _ in LARGE])
def test_a_network_agrees(name, operators, turned):
    make, inputs, _ = torch_models.MODELS[name]
    torch.manual_seed(0)
    network = torch_models.settled(make()).eval() if name != "gpt with a cache" else make().eval()
    made = agree(exported(network, tuple(inputs), operators), tuple(inputs))
    assert sum(n.op.name == "TRANSPOSE" for n in made.module.main.nodes) <= turned


SMALL: dict[str, tuple[Any, Any]] = {
    "LSTM": (lambda: Recurrent("LSTM", bidirectional=True, num_layers=2), lambda: torch.randn(5, 2, 6)),
    "GRU": (lambda: Recurrent("GRU", batch_first=True), lambda: torch.randn(2, 5, 6)),
    "words": (Words, lambda: torch.randint(0, 11, (2, 5))),
    "larger": (Larger, lambda: torch.randn(1, 3, 8, 8)),
    "halving": (lambda: torch.jit.script(Halving()), lambda: torch.randn(4, 3)),
}


@pytest.mark.parametrize("open_batch", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("operators", [11, 13, 20])
@pytest.mark.parametrize("name", SMALL)
def test_operator_sets_say_the_same(name, operators, open_batch, monkeypatch):
    monkeypatch.setenv("LITHE_JIT", "0")
    torch.manual_seed(0)
    make, draw = SMALL[name]
    x = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated
        network = make()
    made = agree(exported(network, (x,), operators, open_batch), (x,))
    assert ("WHILE" in {n.op.name for n in made.module.main.nodes}) == (name == "halving")
    assert (made.module.main.inputs[0].shape_signature is not None) == open_batch


def test_every_operator_set_from_11_on(monkeypatch):
    monkeypatch.setenv("LITHE_JIT", "0")
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for operators in range(11, onnx.defs.onnx_opset_version() + 1):
        nodes = [onnx.helper.make_node("Softmax", ["x"], ["s"], axis=1), onnx.helper.make_node("Neg", ["s"], ["n"]),
                 onnx.helper.make_node("Clip", ["n", "low"], ["y"])]  # fmt: skip
        graph = onnx.helper.make_graph(
            nodes, "g", [onnx.helper.make_tensor_value_info("x", 1, x.shape)],
            [onnx.helper.make_tensor_value_info("y", 1, x.shape)],
            [onnx.numpy_helper.from_array(np.float32(-0.2), "low")],
        )  # fmt: skip
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", operators)])
        flat = x.reshape(2, -1) if operators < 13 else x  # then it was over all axes from this one on
        parts = np.exp(flat) / np.exp(flat).sum(1, keepdims=True)
        made = lithe.convert(proto)
        np.testing.assert_allclose(made(x), np.maximum(-parts.reshape(x.shape), -0.2), rtol=1e-5)
