"""PyTorch's recurrent layers in all their forms."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lithe.conversion.door import convert  # noqa: E402
from lithe.errors import UnsupportedOp  # noqa: E402
from tests.conversion.torch_check import check  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

BATCH, TIME, DEPTH, UNITS, PROJECTED = 2, 5, 4, 6, 3


class Layers(torch.nn.Module):
    """One recurrent layer of each kind, along the same sequences; `states` begins with what is given."""

    def __init__(self, states, **options):
        super().__init__()
        self.states = states
        self.lstm = torch.nn.LSTM(DEPTH, UNITS, **options)
        self.projected = torch.nn.LSTM(DEPTH, UNITS, proj_size=PROJECTED, **options)
        self.gru = torch.nn.GRU(DEPTH, UNITS, **options)
        self.rnn = torch.nn.RNN(DEPTH, UNITS, **options)
        self.relu = torch.nn.RNN(DEPTH, UNITS, nonlinearity="relu", **options)

    def forward(self, x, h, p):
        states = [(h, h + 1), (p, h - 1), h, h, h] if self.states else [None] * 5
        layers = (self.lstm, self.projected, self.gru, self.rnn, self.relu)
        return [layer(x, state) for layer, state in zip(layers, states, strict=True)]


def inputs(options, time=TIME):
    torch.manual_seed(3)
    places = options["num_layers"] * (2 if options["bidirectional"] else 1)
    shape = (BATCH, time) if options["batch_first"] else (time, BATCH)
    sizes = ((*shape, DEPTH), (places, BATCH, UNITS), (places, BATCH, PROJECTED))
    return [torch.randn(s) for s in sizes]


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("batch_first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_layers_of_fixed_length_agree_without_a_loop(states, layers, both, batch_first, tmp_path):
    torch.manual_seed(0)
    options = {"num_layers": layers, "bidirectional": both, "batch_first": batch_first, "bias": layers == 1 or both}
    checked = check(Layers(states, **options), *inputs(options), path=tmp_path)
    assert "WHILE" not in checked.operators


class Outputs(torch.nn.Module):
    """What builtins say: the outputs alone."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(DEPTH, UNITS, 2, bidirectional=True, batch_first=True)
        self.rnn = torch.nn.RNN(DEPTH, UNITS, batch_first=True)
        self.alone = torch.nn.LSTM(DEPTH, UNITS)

    def forward(self, x):
        return self.lstm(x)[0], self.rnn(x)[0], self.alone(x)[0], self.alone(x[0])[0]


def test_layers_whose_states_nobody_reads_become_builtins(tmp_path):
    torch.manual_seed(1)
    checked = check(Outputs(), torch.randn(BATCH, TIME, DEPTH), path=tmp_path)
    assert checked.operators["BIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert checked.operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert checked.operators["UNIDIRECTIONAL_SEQUENCE_RNN"] == 1


def test_layers_are_unrolled_where_that_is_asked_for():
    module = convert(Outputs(), inputs=(torch.zeros(BATCH, TIME, DEPTH),), unroll=True).module
    assert not any("SEQUENCE" in n.op.name for n in module.main.nodes)


class Sequences(torch.nn.Module):
    """An LSTM along sequences of any length."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(DEPTH, UNITS, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def test_the_batch_may_be_open(tmp_path):
    torch.manual_seed(2)
    checked = check(Sequences(), torch.randn(BATCH, TIME, DEPTH), path=tmp_path, describe=(("batch", TIME, DEPTH),))
    assert "WHILE" not in checked.operators


def test_an_open_length_is_refused_because_torch_fixes_it():
    with pytest.raises(UnsupportedOp, match=r"size\(\)\[1\] as dynamic but your code specialized it"):
        convert(Sequences(), inputs=((BATCH, "time", DEPTH),))


class Packed(torch.nn.Module):
    """Sequences of several lengths without padding."""

    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(DEPTH, UNITS)

    def forward(self, x):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
        return self.gru(packed)[1]


def test_packed_sequences_are_refused():
    with pytest.raises(UnsupportedOp, match=r"pack|data"):
        convert(Packed(), inputs=(torch.zeros(TIME, BATCH, DEPTH),))
