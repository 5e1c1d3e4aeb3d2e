"""Bad sources: each ends with one clear error, on the command line and in Python, and without a file."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lithe.cli.main import BAD_INPUT, INTERRUPTED, MISSING_PACKAGE, main
from lithe.conversion import door
from lithe.errors import LitheError
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.types import FLOAT32, TensorType

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NETS = """
import jax, numpy
def double(x): return 2 * x
def parts(x): return jax.numpy.linalg.svd(x)
def product(x): return x @ numpy.ones((3, 3), "float32")
def breaks(x): return x / (1 // 0)
def raises(x): raise RuntimeError("no luck\\nat all")
number = 5
class Bad:
    def __getattr__(self, name): raise AttributeError(name)
bad = Bad()
"""
TORCH_NETS = """
import torch
class Double(torch.nn.Module):
    def forward(self, x): return 2 * x
double = Double()
convolution = torch.nn.Conv2d(3, 4, 3)
class Sorted(torch.nn.Module):
    def forward(self, x): return torch.linalg.svd(x).S
svd = Sorted()
class Branching(torch.nn.Module):
    def forward(self, x): return x if x.sum() > 0 else -x
branching = Branching()
"""
FILES = {
    "broken.py": "def f(x:\n    return x\n",
    "raising.py": "table = {}\nnet = table['nothing']\n",
    "leaving.py": "import sys\nsys.exit('not today')\n",
    "importing.py": "import no_such_package_at_all\n",
    "inner.py": "import os\nnet = os.no_such_function()\n",
    "text.keras": "this is no archive", "empty.keras": "", "text.onnx": "this is no model", "empty.onnx": "",
    "text.pt2": "this is no program", "model.xyz": "", "labels.txt": "one\ntwo\n", "text.h5": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder of sources of which no one can be converted as it is asked for below."""
    folder = tmp_path_factory.mktemp("sources")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "bad_nets.py").write_text(NETS)
    (folder / "bad_torch_nets.py").write_text(TORCH_NETS)
    (folder / "folder").mkdir()
    np.savez(folder / "wrong.npz", y=np.zeros(3, np.float32))
    np.savez(folder / "shape.npz", x=np.zeros((2, 2, 2), np.float32))
    return folder


@pytest.fixture
def place(sources, tmp_path, monkeypatch) -> Path:
    """Where the command is called: with the sources, and a folder `made` that must stay empty."""
    monkeypatch.chdir(sources)
    monkeypatch.setattr(sys, "path", [str(sources), *sys.path])
    return tmp_path / "made.tflite"


def ends_well(arguments: list[str], output: Path, capsys, code: int = BAD_INPUT) -> str:
    """The command's message, once it is seen to be the only one, and that no file is left."""
    assert main(["convert", *arguments, "-o", str(output)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in printed.err
    assert not output.parent.exists() or list(output.parent.iterdir()) == []
    return printed.err


JAX = importlib.util.find_spec("jax") is not None
TORCH = importlib.util.find_spec("torch") is not None
X = ["--shape", "x=2,3"]
ANYWHERE = [
    ("nothing.keras", [], "there is no file"),
    ("model.xyz", [], "of no kind that is known"),
    ("folder", [], "of no kind that is known"),
    ("broken.py:f", X, "is no Python"),
    ("raising.py:net", X, "it raises KeyError"),
    ("leaving.py:net", X, "it raises SystemExit"),
    ("importing.py:net", X, "no_such_package_at_all"),
    ("inner.py:net", X, "it raises AttributeError"),
    ("nothing.py:net", X, "there is no file"),
]
OF_JAX = [
    ("bad_nets.py:nothing", X, "has no 'nothing'"),
    ("bad_nets.py:double", [], "must be described"),
    ("bad_nets.py:double", ["--shape", "x"], "is not understood"),
    ("bad_nets.py:double", ["--shape", "x=-7"], "dimension 0 of input 'x' is -7"),
    ("bad_nets.py:product", ["--shape", "x=2,4"], "does not take x: float32[2, 4]"),
    ("bad_nets.py:double", ["--shape", "x=2,3", "--shape", "y=2"], "does not take x"),
    ("bad_nets.py:parts", X, "cannot express"),
    ("bad_nets.py:breaks", X, "does not take x"),
    ("bad_nets.py:raises", X, "no luck"),
    ("bad_nets.py:number", X, "is no model"),
    ("bad_nets.py:bad", X, "is no model"),
    ("bad_nets.py:number", [*X, "--from", "jax"], "a function of JAX is needed"),
    ("bad_nets.py:double", [*X, "--labels", "labels.txt"], "2 labels for output"),
    ("bad_nets.py:double", [*X, "--labels", "nothing.txt"], "cannot be opened"),
    ("bad_nets.py:double", [*X, "--mean", "one"], "is not a number"),
    ("bad_nets.py:double", [*X, "--mean", "1", "--input-kind", "features", "--std", "0"], "is 0"),
    ("bad_nets.py:double", [*X, "--mean", "y=1"], "is for 'y', which is no input"),
    ("bad_nets.py:double", [*X, "--input-kind", "smell"], "kinds are image"),
    ("bad_nets.py:double", [*X, "--input-kind", "audio"], "sample rate"),
    ("bad_nets.py:double", [*X, "--input-kind", "audio", "--sample-rate", "often"], "is not a number of samples"),
    ("bad_nets.py:double", [*X, "--verify-data", "nothing.npz"], "cannot be opened"),
    ("bad_nets.py:double", [*X, "--verify-data", "wrong.npz"], "there is no input 'y'"),
    ("bad_nets.py:double", [*X, "--verify-data", "shape.npz"], "float32[2, 3]"),
    ("bad_nets.py:double", [*X, "--verify-data", "labels.txt"], "holds no arrays"),
]
OF_TORCH = [
    ("bad_torch_nets.py:double", [], "has no shapes of its own"),
    ("bad_torch_nets.py:double", ["--shape", "y=2,3"], "has no argument 'y'"),
    ("bad_torch_nets.py:convolution", ["--shape", "input=1,5,8,8"], "channels"),
    ("bad_torch_nets.py:svd", X, "cannot express"),
    ("bad_torch_nets.py:branching", X, "torch"),
    ("text.pt2", [], "PyTorch cannot read the file"),
    ("nothing.pt2", [], "there is no file"),
]


@pytest.mark.parametrize(("source", "arguments", "said"), ANYWHERE)
def test_sources_of_no_kind(source, arguments, said, place, capsys):
    assert said in ends_well([source, *arguments], place, capsys)


@pytest.mark.skipif(not JAX, reason="JAX is not installed")
@pytest.mark.parametrize(("source", "arguments", "said"), OF_JAX)
def test_functions_of_jax(source, arguments, said, place, capsys):
    assert said in ends_well([source, *arguments], place, capsys)


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
@pytest.mark.parametrize(("source", "arguments", "said"), OF_TORCH)
def test_models_of_pytorch(source, arguments, said, place, capsys):
    assert said in ends_well([source, *arguments], place, capsys)


def cut(whole: Path, folder: Path, pieces: int = 12) -> list[Path]:
    """The file cut at many places, and with a byte changed in its middle."""
    data = whole.read_bytes()
    found = []
    for i in range(pieces):
        path = folder / f"cut{i}{whole.suffix}"
        path.write_bytes(data[: len(data) * i // pieces])
        found.append(path)
    last = folder / f"last{whole.suffix}"
    last.write_bytes(data[:-1])
    return [*found, last]


def all_refused(whole: Path, folder: Path, output: Path, capsys) -> None:
    for path in cut(whole, folder):
        ends_well([str(path)], output, capsys)
        with pytest.raises(LitheError):
            door.convert(path)


def keras_file(folder: Path) -> Path:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras runs on another backend here")
    net = keras.Sequential([keras.layers.Input((4,), name="x"), keras.layers.Dense(3)])
    net.save(folder / "net.keras")
    return folder / "net.keras"


def test_damaged_files_of_keras(place, capsys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    whole = keras_file(folder)
    all_refused(whole, folder, place, capsys)
    for name in ("text.keras", "empty.keras", "text.h5"):
        assert "Keras cannot read the file" in ends_well([name], place, capsys)
    assert "has the shape ['batch', 4]" in ends_well([str(whole), "--shape", "x=1,5"], place, capsys)
    assert "has no input 'z'" in ends_well([str(whole), "--shape", "z=1,4"], place, capsys)


def test_a_layer_that_keras_does_not_know(place, capsys, tmp_path_factory):
    whole = keras_file(tmp_path_factory.mktemp("keras"))
    keras = pytest.importorskip("keras")

    class Own(keras.layers.Layer):
        def call(self, x):
            return x + 1

    keras.Sequential([keras.layers.Input((4,)), Own()]).save(whole)
    assert "register custom layers" in ends_well([str(whole)], place, capsys)


def onnx_file(folder: Path, operator: str = "Relu") -> Path:
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
    make = onnx.helper
    ends = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, 3]) for n in ("x", "y")]
    weights = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    nodes = [make.make_node("Add", ["x", "w"], ["h"]), make.make_node(operator, ["h"], ["y"])]
    graph = make.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    path = folder / "net.onnx"
    path.write_bytes(make.make_model(graph).SerializeToString())
    return path


def test_damaged_files_of_onnx(place, capsys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    whole = onnx_file(folder)
    all_refused(whole, folder, place, capsys)
    for name in ("text.onnx", "empty.onnx"):
        ends_well([name], place, capsys)
    assert "has no input 'z'" in ends_well([str(whole), "--shape", "z=2,3"], place, capsys)
    ends_well([str(whole), "--shape", "x=2,3,4"], place, capsys)
    assert "NoSuchOperator" in ends_well([str(onnx_file(folder, "NoSuchOperator"))], place, capsys)


def test_damaged_files_of_the_format(place, capsys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    graph = Graph("main", [value("x")], [value("y")], [], [])
    graph.tensors = [*graph.inputs, *graph.outputs]
    graph.nodes = [Node(REGISTRY.by_name["RELU"], NoAttrs(), graph.inputs, graph.outputs)]
    (folder / "net.tflite").write_bytes(tflite.write(Module([graph])))
    all_refused(folder / "net.tflite", folder, place, capsys)


def value(name: str) -> Tensor:
    return Tensor(name, TensorType(FLOAT32, (2, 3)))


def test_damaged_folders_of_tensorflow(place, capsys):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    folder = place.parent.parent / "saved"
    folder.mkdir(exist_ok=True)
    for data in (b"", b"this is no SavedModel", bytes(range(256))):
        (folder / "saved_model.pb").write_bytes(data)
        ends_well([str(folder)], place, capsys)


def test_damaged_files_of_pytorch(place, capsys, tmp_path_factory):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    folder = tmp_path_factory.mktemp("torch")
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), folder / "net.pt2")
    all_refused(folder / "net.pt2", folder, place, capsys)
    assert main(["convert", str(folder / "net.pt2"), "-o", str(place), "--verify"]) == 0
    assert place.exists()


@pytest.mark.parametrize(("package", "source"), [("onnx", "text.onnx"), ("torch", "text.pt2"), ("keras", "text.keras")])
def test_a_framework_that_is_absent(package, source, place, capsys, monkeypatch):
    (place.parent / source).write_text("")
    copy = place.parent / source
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["convert", str(copy), "-o", str(place)]) == MISSING_PACKAGE
    assert f"pip install 'lithe[{package}" in capsys.readouterr().err
    assert not place.exists()


@pytest.mark.skipif(not JAX, reason="JAX is not installed")
def test_places_that_cannot_be_written(place, capsys):
    source = ["bad_nets.py:double", *X]
    assert "there is no folder" in ends_well(source, place.parent / "nothing" / "made.tflite", capsys)
    folder = place.parent / "made.tflite"
    folder.mkdir()
    assert main(["convert", *source, "-o", str(folder)]) == BAD_INPUT
    assert "cannot write" in capsys.readouterr().err
    assert list(place.parent.iterdir()) == [folder]


@pytest.mark.skipif(not JAX, reason="JAX is not installed")
def test_a_full_disk(sources, tmp_path):
    """A limit on the size of files stands for it: writing fails half-way."""
    text = (
        "import resource, sys; from lithe.cli.main import main; import jax.numpy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); sys.exit(main())"
    )
    made = subprocess.run(
        [sys.executable, "-c", text, "convert", "bad_nets.py:double", *X, "-o", str(tmp_path / "made.tflite")],
        cwd=sources, capture_output=True, text=True, check=False,
        env={**os.environ, "LITHE_CACHE": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert made.returncode == BAD_INPUT
    assert "error: cannot write" in made.stderr
    assert "Traceback" not in made.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not JAX, reason="JAX is not installed")
@pytest.mark.parametrize("step", ["converting", "writing"])
def test_an_interrupt(step, place, capsys, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    owner, name = (door, "converted") if step == "converting" else (os, "fsync")
    monkeypatch.setattr(owner, name, stop)
    assert main(["convert", "bad_nets.py:double", *X, "-o", str(place)]) == INTERRUPTED
    assert capsys.readouterr().err.strip() == "stopped"
    assert list(place.parent.iterdir()) == []


@pytest.mark.skipif(not JAX, reason="JAX is not installed")
@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (5, {}, "is no model"),
        ({}, {}, "given by name"),
        ({1: abs}, {}, "given by name"),
        (abs, {"inputs": {"x": 7}}, "is described by 7"),
        (abs, {"inputs": {"x": ((2,), "float33")}}, "element type"),
        (abs, {"kind": "caffe"}, "no kind of source"),
        (abs, {"inputs": {"x": (2,)}, "verify": "everything"}, "is not known"),
        (abs, {"inputs": {"x": (2,)}, "verify": []}, "no inputs to verify with"),
        (abs, {"inputs": {"x": (2,)}, "verify": [3]}, "inputs to verify with are"),
        (abs, {"inputs": {"x": (2,)}, "metadata": {"colour": "red"}}, "metadata have no 'colour'"),
        (abs, {"inputs": {"x": (2,)}, "metadata": {"author": 3}}, "is a text"),
        (abs, {"inputs": {"x": (2, 5)}, "metadata": {"mean": 3}}, None),
        (abs, {"inputs": {"x": (2, 2, 5)}, "metadata": {"mean": 3}}, "is no picture"),
        (abs, {"inputs": {"x": (1, 2, 2, 3)}, "metadata": {"mean": (1, 2)}}, "2 numbers for 3 channels"),
        (abs, {"inputs": {"x": (1, 2, 2, 3)}, "metadata": {"std": "much"}}, "give a number"),
        (abs, {"inputs": {"x": (1, 2)}, "metadata": {"labels": ["a\nb", "c"]}}, "more than one line"),
        (abs, {"inputs": {"x": (1, 2)}, "metadata": {"sample_rate": 8, "input_kind": "image"}}, "no sample rate"),
    ],
)
def test_mistakes_in_python(source, options, said):
    if said is None:
        assert door.convert(source, **options).inputs
        return
    with pytest.raises(LitheError) as caught:
        door.convert(source, **options)
    assert said in str(caught.value)
