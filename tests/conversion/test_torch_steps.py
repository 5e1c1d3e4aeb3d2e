"""Steps of recurrent cells that a PyTorch module writes in a loop of Python are found to be a layer."""

from __future__ import annotations

import numpy as np
import pytest

import lithe
from tests.conversion.official import run_official

torch = pytest.importorskip("torch")


class Steps(torch.nn.Module):
    def __init__(self, cell, backwards=False):
        super().__init__()
        self.cell, self.backwards = cell, backwards

    def forward(self, x):
        state = torch.zeros(x.shape[0], self.cell.hidden_size)
        if isinstance(self.cell, torch.nn.LSTMCell):
            state = (state, torch.zeros(x.shape[0], self.cell.hidden_size))
        outputs = []
        order = range(x.shape[1])
        for t in reversed(order) if self.backwards else order:
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs[::-1] if self.backwards else outputs, 1)


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_loop_over_cells(kind, backwards):
    torch.manual_seed(0)
    net = Steps(getattr(torch.nn, kind)(5, 8), backwards).eval()
    model = lithe.convert(net, inputs={"x": (2, 6, 5)}, verify=True)
    names = [n.op.name for n in model.module.main.nodes]
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    wanted = net(torch.from_numpy(x)).detach().numpy()
    for _ in range(2):  # a run begins from zeros, whatever was before it
        np.testing.assert_allclose(model(x), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_official(model, {"x": x})[0], wanted, rtol=0, atol=1e-6)
    if kind == "GRUCell":
        assert names.count("FULLY_CONNECTED") == 6  # one for all inputs, and one for each state but the first
    else:
        assert set(names) <= {"ZEROS_LIKE", "REVERSE_V2", f"UNIDIRECTIONAL_SEQUENCE_{kind.removesuffix('Cell')}"}
