"""Models from PyTorch that need more than one graph of layers: masks, caches, spectra, loops over data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.conversion.torch_models import conv

SIZE, HEADS, WORDS, PLACES = 16, 2, 23, 12


class MaskedAttention(nn.Module):
    """Of several heads, with a layer for queries, keys and values each; the mask is added to the scores."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))

    def forward(self, x, mask):
        def heads(y):
            return y.view(*y.shape[:-1], HEADS, SIZE // HEADS).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = q @ k.transpose(-1, -2) / (SIZE // HEADS) ** 0.5 + mask
        mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class BertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend, self.norms = MaskedAttention(), nn.ModuleList(nn.LayerNorm(SIZE) for _ in range(2))
        self.wide, self.narrow = nn.Linear(SIZE, 2 * SIZE), nn.Linear(2 * SIZE, SIZE)

    def forward(self, x, mask):
        x = self.norms[0](x + self.attend(x, mask))
        return self.norms[1](x + self.narrow(F.gelu(self.wide(x))))


class Bert(nn.Module):
    """Words, places and segments; layers of attention with a mask; a pooled vector and one for each word."""

    def __init__(self):
        super().__init__()
        self.words, self.places, self.kinds = (nn.Embedding(n, SIZE) for n in (WORDS, PLACES, 2))
        self.first, self.pool = nn.LayerNorm(SIZE), nn.Linear(SIZE, SIZE)
        self.layers = nn.ModuleList(BertLayer() for _ in range(2))

    def forward(self, ids, mask, segments):
        places = torch.arange(ids.shape[1])
        x = self.first(self.words(ids) + self.places(places) + self.kinds(segments))
        added = (1.0 - mask[:, None, None, :].float()) * -1e9
        for layer in self.layers:
            x = layer(x, added)
        return {"words": x, "pooled": torch.tanh(self.pool(x[:, 0]))}


class Gpt(nn.Module):
    """A language model: the cache, keys and values [layers, batch, heads, places, size], grows with each word."""

    def __init__(self, layers=2):
        super().__init__()
        self.words, self.places, self.last = nn.Embedding(WORDS, SIZE), nn.Embedding(PLACES, SIZE), nn.LayerNorm(SIZE)
        self.qkv = nn.ModuleList(nn.Linear(SIZE, 3 * SIZE) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(SIZE, SIZE) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(SIZE) for _ in range(2 * layers))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(SIZE, 2 * SIZE), nn.GELU(approximate="tanh"), nn.Linear(2 * SIZE, SIZE))
            for _ in range(layers)
        )

    def run(self, ids, place, keys, values):
        batch, length = ids.shape
        x = self.words(ids) + self.places(place + torch.arange(length))
        new_keys, new_values = [], []
        for i, qkv in enumerate(self.qkv):
            parts = qkv(self.norms[2 * i](x)).chunk(3, -1)
            q, k, v = (p.view(batch, length, HEADS, SIZE // HEADS).transpose(1, 2) for p in parts)
            if keys is not None:
                k, v = torch.cat([keys[i], k], 2), torch.cat([values[i], v], 2)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=keys is None)
            x = x + self.out[i](y.transpose(1, 2).reshape(batch, length, SIZE))
            x = x + self.feed[i](self.norms[2 * i + 1](x))
            new_keys.append(k)
            new_values.append(v)
        logits = self.last(x) @ self.words.weight.t()
        return {"logits": logits, "keys": torch.stack(new_keys), "values": torch.stack(new_values)}


class Prefill(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model.run(ids, 0, None, None)


class Decode(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, place, keys, values):
        return self.model.run(ids, place, keys, values)


def gpt():
    """The two functions of one model, and their inputs: prompts and caches may have any length."""
    model = Gpt()
    cache = (2, 1, HEADS, "past", SIZE // HEADS)
    inputs = {
        "prefill": {"ids": ((1, "length"), "int64")},
        "decode": {"ids": ((1, 1), "int64"), "place": ((), "int64"), "keys": cache, "values": cache},
    }
    return {"prefill": Prefill(model), "decode": Decode(model)}, inputs


class AudioNet(nn.Module):
    """Sound in, classes out: spectrum, mel bands, depthwise separable convolutions."""

    def __init__(self, frame=64, bands=10):
        super().__init__()
        self.frame = frame
        self.register_buffer("window", torch.hann_window(frame))
        self.register_buffer("bands", torch.rand(frame // 2 + 1, bands))
        parts = [conv(1, 8, 3, 2), conv(8, 8, 3, 1, 8), conv(8, 12, 1), conv(12, 12, 3, 2, 12), conv(12, 16, 1)]
        self.net, self.head = nn.Sequential(*parts), nn.Linear(16, 4)

    def forward(self, sound):
        spectrum = torch.stft(sound, self.frame, self.frame // 2, window=self.window, return_complex=True)
        mel = torch.log(spectrum.abs().pow(2).transpose(1, 2) @ self.bands + 1e-3)
        return self.head(self.net(mel[:, None]).mean((2, 3))).softmax(-1)


def overlaps(boxes):
    """Common area of each pair of boxes [y0, x0, y1, x1] over the area of both."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return common / (area[:, None] + area[None] - common + 1e-6)


class Ssd(nn.Module):
    """Boxes around anchors, and the best of them: each takes away those that it overlaps."""

    def __init__(self, anchors=3, classes=3, count=5):
        super().__init__()
        self.classes, self.count = classes, count
        self.low, self.high = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2)), conv(12, 12, 3, 2)
        self.places = nn.ModuleList(nn.Conv2d(12, anchors * 4, 3, padding=1) for _ in range(2))
        self.labels = nn.ModuleList(nn.Conv2d(12, anchors * (classes + 1), 3, padding=1) for _ in range(2))
        centres = []
        for n in (8, 4):
            line = (torch.arange(n) + 0.5) / n
            grid = torch.cartesian_prod(line, line, torch.tensor([0.8, 1.5, 2.5]) / n)
            centres.append(torch.cat([grid, grid[:, 2:]], 1))
        self.register_buffer("around", torch.cat(centres))

    def forward(self, image):
        low = self.low(image)
        features = [low, self.high(low)]
        moved, logits = (
            torch.cat([head(f).permute(0, 2, 3, 1).reshape(-1, n) for head, f in zip(heads, features, strict=True)])
            for heads, n in ((self.places, 4), (self.labels, self.classes + 1))
        )
        centre = self.around[:, :2] + 0.1 * moved[:, :2] * self.around[:, 2:]
        half = self.around[:, 2:] * (0.2 * moved[:, 2:]).clamp(-2, 2).exp() / 2
        boxes = torch.cat([centre - half, centre + half], 1).clamp(0, 1)
        scores, labels = logits.softmax(-1)[:, 1:].max(-1)
        chosen, found = self.suppress(boxes, scores)
        return {"boxes": boxes[chosen], "scores": found, "classes": labels[chosen]}

    def suppress(self, boxes, scores, threshold=0.5):
        covers = overlaps(boxes) > threshold
        slots = torch.arange(self.count)

        def more(i, left, places, found):
            return i < self.count

        def pick(i, left, places, found):
            best = left.argmax()[None]
            here = slots == i
            places = torch.where(here, best, places)
            found = torch.where(here, left.max(), found)
            return i + 1, torch.where(covers[best][0], 0.0, left), places, found

        start = (torch.tensor(0), scores, torch.zeros(self.count, dtype=torch.int64), torch.zeros(self.count))
        return torch.while_loop(more, pick, start)[2:]


WORD = (("batch", "time"), "int64")
# name: the model, and its inputs
SHOWN = {
    "bert": (Bert, {"ids": WORD, "mask": WORD, "segments": WORD}),
    "audio net": (AudioNet, {"sound": (2, 512)}),
    "ssd": (Ssd, {"image": (1, 3, 32, 32)}),
}
