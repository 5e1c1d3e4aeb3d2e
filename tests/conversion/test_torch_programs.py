"""PyTorch models as programs: dimensions, inputs and outputs, control flow, state, and sources that cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lithe  # noqa: E402
from lithe.conversion import door  # noqa: E402
from lithe.conversion.torch import convert  # noqa: E402
from lithe.errors import InputError, LitheError, MissingDependency, UnsupportedOp  # noqa: E402
from lithe.types import FLOAT32, INT64, TensorType  # noqa: E402
from tests.conversion.torch_check import check, tensors  # noqa: E402

nn = torch.nn


class Head(nn.Module):
    """A picture's classes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3))
        self.head = nn.Linear(6, 5)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3)))


def test_parameters_keep_their_names():
    module = convert(Head(), (torch.zeros(1, 3, 16, 16),))
    assert {"body.0.weight", "body.3.weight", "head.weight"} <= {t.name for t in module.constants()}
    assert list(module.signatures[0].inputs) == ["image"]
    assert list(module.signatures[0].outputs) == ["output"]


def test_a_module_is_left_in_the_mode_it_was_in():
    model = Head().train()
    model.body[1].eval()
    convert(model, (torch.zeros(1, 3, 16, 16),))
    assert model.training
    assert not model.body[1].training


@pytest.mark.parametrize("describe", [
    (("batch", 3, "height", "width"),), {"image": ("batch", 3, 16, 16)}, {"image": (-1, 3, 16, 16)},
    ("batch", 3, 16, 16), (TensorType(FLOAT32, (-1, 3, 16, 16)),), (np.zeros((2, 3, 16, 16), np.float32),),
])  # fmt: skip
def test_shapes_may_stand_for_inputs_and_names_for_open_dimensions(describe, tmp_path):
    torch.manual_seed(0)
    model = Head()
    module = check(model, torch.randn(2, 3, 16, 16), path=tmp_path, describe=describe).module
    open_ones = not isinstance(describe, tuple) or not isinstance(describe[0], np.ndarray)
    signature = module.main.inputs[0].shape_signature
    assert (signature is not None and signature[0] == -1) == open_ones


def test_a_program_keeps_its_dynamic_dimensions(tmp_path):
    class Pairs(nn.Module):
        def forward(self, x, y):
            z = torch.cat([x, y], 0)
            return z.reshape(z.shape[0] // 1, -1) * z.shape[0], x.flatten(0, 1), y[1:], x.sum() / x.shape[0]

    batch = torch.export.Dim("batch", min=3, max=100)
    shapes = {"x": {0: batch}, "y": {0: batch}}
    examples = (torch.zeros(3, 2, 4), torch.zeros(3, 2, 4))
    program = torch.export.export(Pairs(), examples, dynamic_shapes=shapes)
    check(program, torch.randn(5, 2, 4), torch.randn(5, 2, 4), path=tmp_path)


def test_masks_and_positions_follow_an_open_length(tmp_path):
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Embedding(16, 8)
            self.linear = nn.Linear(8, 24)

        def forward(self, x):
            batch, length, _ = x.shape
            x = x + self.places(torch.arange(length))
            q, k, v = self.linear(x).view(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            mask = torch.ones(length, length, dtype=torch.bool).tril()
            y = nn.functional.scaled_dot_product_attention(q, k, v, mask)
            return y.transpose(1, 2).reshape(batch, length, 8), x[:, -1]

    torch.manual_seed(0)
    check(Causal(), torch.randn(2, 7, 8), path=tmp_path, describe=(("batch", "length", 8),))


def test_trees_of_inputs_and_outputs_have_names(tmp_path):
    class Trees(nn.Module):
        def forward(self, pair, options):
            a, b = pair
            return {"sum": a + b, "parts": (a * options["scale"], b)}

    inputs = ((torch.ones(2, 3), torch.ones(2, 3) * 2), {"scale": torch.tensor(3.0)})
    module = check(Trees(), *inputs, path=tmp_path).module
    assert list(module.signatures[0].outputs) == ["sum", "parts/0", "parts/1"]


def test_a_program_in_training_mode_is_converted_as_it_is_used(tmp_path):
    x = torch.ones(2, 3)
    program = torch.export.export(nn.Sequential(nn.Dropout(0.5), nn.ReLU()).train(), (x,))
    path = str(tmp_path / "model.tflite")
    lithe.Model(convert(program)).save(path)
    np.testing.assert_array_equal(lithe.load(path)(x.numpy()), x.numpy())


def test_inputs_by_name(tmp_path):
    class Named(nn.Module):
        def forward(self, a, b, *, c):
            return a - b * c

    check(Named(), a=torch.ones(3), b=torch.arange(3.0), c=torch.ones(3) * 4, path=tmp_path)


def test_the_door_takes_modules_and_programs():
    torch.manual_seed(0)
    model = door.convert(Head(), inputs={"image": ("batch", 3, 16, 16)}, verify=True)
    assert model.module.signatures[0].key == "serving_default"
    door.convert(torch.export.export(Head().eval(), (torch.zeros(1, 3, 16, 16),)), verify=True)


# control flow


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.linear(x) + 1, lambda x: x * 2, (x,))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_branch_is_taken(sign, tmp_path):
    torch.manual_seed(0)
    checked = check(Branches(), torch.ones(2, 3) * sign, path=tmp_path)
    assert checked.operators["IF"] == 1


class Loops(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, n, x):
        def goes_on(i, x):
            return i < n.sum()

        def step(i, x):
            return i + 1, torch.tanh(self.linear(x))

        return torch._higher_order_ops.while_loop(goes_on, step, (torch.tensor(0), x))


def test_a_loop_goes_on_as_long_as_its_condition_holds(tmp_path):
    torch.manual_seed(0)
    checked = check(Loops(), torch.tensor([3]), torch.randn(2, 3), path=tmp_path)
    assert checked.operators["WHILE"] == 1


# state


class Cache(nn.Module):
    """Keys of an attention that are kept from run to run."""

    def __init__(self):
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 4, 3))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        self.keys[:, self.count] = x
        self.count += 1
        return self.keys.sum(1), self.keys * 2


def test_buffers_that_change_become_variables(tmp_path):
    model = Cache()
    module = convert(model, (torch.zeros(1, 1, 3),))
    path = str(tmp_path / "cache.tflite")
    lithe.Model(module).save(path)
    loaded = lithe.load(path)
    from_official = official_runner(path)
    for i in range(3):
        x = torch.full((1, 1, 3), i + 1.0)
        want = tensors(model(x))
        feed = {"x": x.numpy()}
        for run in filter(None, (loaded, from_official)):
            made = run(**feed)
            for name, expected in zip(module.signatures[0].outputs, want, strict=True):
                np.testing.assert_allclose(made[name], expected)


def official_runner(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    runner = Interpreter(path).get_signature_runner()
    runner.interpreter = None
    return runner


# sources that cannot be


class Nonzero(nn.Module):
    def forward(self, x):
        return torch.nonzero(x)


class Selected(nn.Module):
    def forward(self, x):
        return torch.masked_select(x, x > 0).sum()


class DependsOnData(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class Determinant(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([Inner()])

    def forward(self, x):
        return self.inner[0](x) + torch.fft.fft2(x).real


class Inner(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvalsh(x)


class Sized(nn.Module):
    def forward(self, x):
        return x.reshape(4, 2)


class Changes(nn.Module):
    def forward(self, x):
        x += 1
        return x


class Conjugate(nn.Module):
    def forward(self, x):
        return x * 2


class Widened(nn.Module):
    def forward(self, x):
        return x.to(torch.float32)


class Half(nn.Module):
    def forward(self, x):
        return x.mean(), torch.complex(x, x)


class Random(nn.Module):
    def forward(self, x):
        return x + torch.randn(3, generator=GENERATOR)


GENERATOR = torch.Generator()
X = torch.zeros(3, 3)
RARE = X.to(torch.float8_e4m3fnuz)
BAD = {
    "no inputs": (Head(), None, InputError, "inputs"),
    "not a model": (lambda x: x, (X,), InputError, "torch.nn.Module"),
    "a wrong example": (Head(), (X,), UnsupportedOp, "trace"),
    "a missing example": (Head(), (), UnsupportedOp, "trace"),
    "an unknown name": (Head(), {"picture": X}, InputError, "no argument 'picture'"),
    "a strange description": (Head(), (object(),), InputError, "described by"),
    "control flow that depends on data": (DependsOnData(), (X,), UnsupportedOp, "data-dependent"),
    "a size that depends on data": (Nonzero(), (X,), UnsupportedOp, "nonzero"),
    "elements that data select": (Selected(), (X,), UnsupportedOp, "masked_select|nonzero"),
    "operators without builtins": (Determinant(), (X,), UnsupportedOp, r"inner\.0 \(Inner\), test_torch_programs\.py:"),
    "complex inputs": (Conjugate(), (torch.zeros(3, 3, dtype=torch.complex64),), UnsupportedOp, "complex"),
    "an element type that files lack": (Widened(), (RARE,), UnsupportedOp, "float8_e4m3fnuz"),
    "an object that is no tensor": (Random(), (X,), UnsupportedOp, "no tensor"),
    "complex numbers inside": (Half(), (X,), UnsupportedOp, "complex"),
    "a dimension that the model fixes": (Sized(), (("batch", 2),), LitheError, "batch|dimension|trace"),
    "an input that is changed": (Changes(), (X,), UnsupportedOp, "changes its input"),
    "a program and inputs": (torch.export.export(Inner(), (X,)), (X,), InputError, "its own inputs"),
}


def test_inputs_are_named_as_the_arguments_are():
    with pytest.raises(InputError, match=r"Head.forward has no argument 'x'") as caught:
        convert(Head(), {"x": (1, 3, 16, 16)})
    assert "its arguments are image" in str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_source_gets_one_clear_error(name):
    source, inputs, kind, text = BAD[name]
    with pytest.raises(kind, match=text) as caught:
        convert(source, inputs)
    assert isinstance(caught.value, LitheError)


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="pip install"):
        convert(object(), None)


def test_other_element_types_are_kept(tmp_path):
    class Integers(nn.Module):
        def forward(self, x):
            return x + 1, x.to(torch.int32), x > 2

    checked = check(Integers(), torch.arange(6).view(2, 3), path=tmp_path)
    assert checked.module.main.inputs[0].type.dtype == INT64
