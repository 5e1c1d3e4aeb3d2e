"""Small models in the shapes that people train: each class is a whole architecture with few channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs, outputs, size=3, stride=1, groups=1, activation=nn.ReLU, dilation=1):
    """Convolution, batch normalization, activation."""
    padding = dilation * (size - 1) // 2
    parts = [nn.Conv2d(inputs, outputs, size, stride, padding, dilation, groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([activation()] if activation else []))


def settled(model):
    """Batch normalizations with statistics as training leaves them, so that no layer dies out."""
    torch.manual_seed(7)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.normal_(m.running_mean, 0, 0.1)
            nn.init.uniform_(m.running_var, 0.05, 0.5)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.3)
    return model.eval()


class Classifier(nn.Module):
    """Features, the mean over places, classes."""

    def __init__(self, features, channels):
        super().__init__()
        self.features, self.head = features, nn.Linear(channels, 10)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, activation=None))
        self.short = conv(inputs, outputs, 1, stride, activation=None) if stride > 1 or inputs != outputs else None

    def forward(self, x):
        return F.relu(self.body(x) + (x if self.short is None else self.short(x)))


def resnet():
    stem = [conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)]
    return Classifier(nn.Sequential(*stem, Residual(8, 8), Residual(8, 16, 2), Residual(16, 16)), 16)


class Squeeze(nn.Module):
    """Factors of channels, computed from their means."""

    def __init__(self, channels, gate=nn.Hardsigmoid):
        super().__init__()
        self.down, self.up, self.gate = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1), gate()

    def forward(self, x):
        return x * self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride=1, size=3, squeeze=None, activation=nn.ReLU6):
        super().__init__()
        wide = inputs * 3
        parts = [conv(inputs, wide, 1, activation=activation), conv(wide, wide, size, stride, wide, activation)]
        parts += [squeeze(wide)] if squeeze else []
        self.body = nn.Sequential(*parts, conv(wide, outputs, 1, activation=None))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.same else self.body(x)


def mobilenet_v2():
    return Classifier(nn.Sequential(conv(3, 8, 3, 2, activation=nn.ReLU6), Inverted(8, 8), Inverted(8, 12, 2)), 12)


def mobilenet_v3():
    blocks = [Inverted(8, 8, 1, 3, Squeeze, nn.Hardswish), Inverted(8, 12, 2, 5, Squeeze, nn.Hardswish)]
    return Classifier(nn.Sequential(conv(3, 8, 3, 2, activation=nn.Hardswish), *blocks), 12)


def efficientnet():
    def squeeze(channels):
        return Squeeze(channels, nn.Sigmoid)

    blocks = [Inverted(8, 8, 1, 3, squeeze, nn.SiLU), Inverted(8, 12, 2, 5, squeeze, nn.SiLU)]
    return Classifier(nn.Sequential(conv(3, 8, 3, 2, activation=nn.SiLU), *blocks), 12)


class ChannelsFirstNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm, self.scale = nn.LayerNorm(channels), nn.Parameter(torch.full((channels,), 0.5))
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.scale * self.narrow(F.gelu(self.wide(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


def convnext():
    stem = [nn.Conv2d(3, 8, 4, 4), ChannelsFirstNorm(8), ConvNext(8)]
    return Classifier(nn.Sequential(*stem, ChannelsFirstNorm(8), nn.Conv2d(8, 12, 2, 2), ConvNext(12)), 12)


class Attention(nn.Module):
    def __init__(self, size, heads=2):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x, mask=None):
        batch, length, size = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out(y.transpose(1, 2).reshape(batch, length, size))


class Encoder(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.first, self.second, self.attention = nn.LayerNorm(size), nn.LayerNorm(size), Attention(size)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x, mask=None):
        x = x + self.attention(self.first(x), mask)
        return x + self.feed(self.second(x))


class VisionTransformer(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.patches = nn.Conv2d(3, size, 8, 8)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, size)), nn.Parameter(torch.randn(1, 17, size))
        self.blocks, self.head = nn.Sequential(Encoder(size), Encoder(size)), nn.Linear(size, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.blocks(x)[:, 0])


class Shifted(nn.Module):
    """Attention in windows, which are shifted."""

    def __init__(self, size, window=4, shift=2):
        super().__init__()
        self.window, self.shift, self.norm, self.attention = window, shift, nn.LayerNorm(size), Attention(size)

    def forward(self, x):
        batch, height, width, size = x.shape
        w = self.window
        y = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        y = y.view(batch, height // w, w, width // w, w, size).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, size)
        y = self.attention(y).view(batch, height // w, width // w, w, w, size).permute(0, 1, 3, 2, 4, 5)
        return x + torch.roll(y.reshape(batch, height, width, size), (self.shift, self.shift), (1, 2))


class Swin(nn.Module):
    def __init__(self, size=8):
        super().__init__()
        self.patches, self.block, self.shifted = nn.Conv2d(3, size, 4, 4), Shifted(size, shift=0), Shifted(size)
        self.merge, self.head = nn.Linear(4 * size, 2 * size), nn.Linear(2 * size, 10)

    def forward(self, x):
        x = self.shifted(self.block(self.patches(x).permute(0, 2, 3, 1)))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.head(self.merge(x).mean((1, 2)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle = conv(3, 8), conv(8, 12), conv(12, 16)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)
        self.after2, self.after1, self.last = conv(24, 12), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        y = self.after2(torch.cat([self.up2(c), b], 1))
        return self.last(self.after1(torch.cat([self.up1(y), a], 1)))


class Dense(nn.Module):
    def __init__(self, inputs, growth=4, layers=3):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + i * growth), nn.ReLU(), nn.Conv2d(inputs + i * growth, growth, 3, 1, 1)
            )
            for i in range(layers)
        )

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def densenet():
    parts = [conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), Dense(8), conv(20, 8, 1), nn.AvgPool2d(2), Dense(8)]
    return Classifier(nn.Sequential(*parts), 20)


def regnet():
    blocks = [
        conv(8, 16, 3, 2, groups=2, activation=None),
        nn.SiLU(),
        conv(16, 16, 3, groups=4),
        Squeeze(16, nn.Sigmoid),
    ]
    return Classifier(nn.Sequential(conv(3, 8, 3, 2), *blocks), 16)


class Shuffle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(conv(half, half, 1), conv(half, half, 3, 1, half, None), conv(half, half, 1))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        y = torch.cat([a, self.branch(b)], 1)
        batch, channels, height, width = y.shape
        return y.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def shufflenet():
    return Classifier(nn.Sequential(conv(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1), Shuffle(8), Shuffle(8)), 8)


class Mixed(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.one, self.three = conv(inputs, 4, 1), nn.Sequential(conv(inputs, 4, 1), conv(4, 6, 3))
        self.tall = nn.Sequential(nn.Conv2d(inputs, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0)))
        self.pooled = conv(inputs, 2, 1)

    def forward(self, x):
        pooled = self.pooled(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat([self.one(x), self.three(x), self.tall(x), pooled, F.max_pool2d(x, 3, 1, 1)], 1)


def inception():
    return Classifier(nn.Sequential(conv(3, 8, 3, 2), nn.MaxPool2d(3, 2, ceil_mode=True), Mixed(8), Mixed(24)), 40)


class DeepLab(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.plain = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2)), conv(12, 6, 1)
        self.wide = nn.ModuleList(conv(12, 6, 3, dilation=d) for d in (2, 4))
        self.whole, self.last = nn.Conv2d(12, 6, 1), nn.Conv2d(24, 3, 1)

    def forward(self, x):
        y = self.body(x)
        whole = F.relu(self.whole(F.adaptive_avg_pool2d(y, 1)))
        parts = [self.plain(y), *(w(y) for w in self.wide), F.interpolate(whole, y.shape[2:], mode="bilinear")]
        y = self.last(torch.cat(parts, 1))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


class Mixer(nn.Module):
    def __init__(self, places=16, size=12):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, size, 8, 8), nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.across = nn.Sequential(nn.Linear(places, 8), nn.GELU(), nn.Linear(8, places))
        self.along, self.head = nn.Sequential(nn.Linear(size, 24), nn.GELU(), nn.Linear(24, size)), nn.Linear(size, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.across(self.norm[0](x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.along(self.norm[1](x))).mean(1))


class Detector(nn.Module):
    """Boxes and classes from two sizes of features."""

    def __init__(self, anchors=3, classes=4):
        super().__init__()
        self.classes, self.low, self.high = (
            classes,
            nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2)),
            conv(12, 12, 3, 2),
        )
        self.boxes = nn.ModuleList(nn.Conv2d(12, anchors * 4, 3, padding=1) for _ in range(2))
        self.scores = nn.ModuleList(nn.Conv2d(12, anchors * classes, 3, padding=1) for _ in range(2))

    def forward(self, x):
        low = self.low(x)
        features = [low, self.high(low)]
        boxes = [h(f).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for h, f in zip(self.boxes, features, strict=True)]
        scores = [h(f).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.classes)
                  for h, f in zip(self.scores, features, strict=True)]  # fmt: skip
        return {"boxes": torch.cat(boxes, 1), "scores": torch.cat(scores, 1).softmax(-1)}


class Generator(nn.Module):
    """A picture of twice the size."""

    def __init__(self):
        super().__init__()
        self.first, self.blocks, self.last = nn.Conv2d(3, 8, 3, 1, 1), Residual(8, 8), nn.Conv2d(8, 12, 3, 1, 1)
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x):
        y = F.leaky_relu(self.norm(self.first(F.pad(x, (1, 1, 1, 1), mode="reflect"))[:, :, 1:-1, 1:-1]), 0.2)
        return torch.tanh(F.pixel_shuffle(self.last(self.blocks(y)), 2))


class Autoencoder(nn.Module):
    """A code in the middle, through flattened features."""

    def __init__(self):
        super().__init__()
        self.encode, self.small = nn.Sequential(conv(3, 8, 3, 2), conv(8, 4, 3, 2)), nn.Linear(4 * 64, 6)
        self.wide, self.decode = nn.Linear(6, 4 * 64), nn.Sequential(nn.Upsample(scale_factor=2), conv(4, 3, 3))

    def forward(self, x):
        code = self.small(self.encode(x).flatten(1))
        return code, torch.sigmoid(self.decode(self.wide(code).view(-1, 4, 8, 8)))


class TextEncoder(nn.Module):
    def __init__(self, words=20, size=16):
        super().__init__()
        self.words, self.places = nn.Embedding(words, size), nn.Embedding(12, size)
        layer = nn.TransformerEncoderLayer(size, 2, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.layers(x, src_key_padding_mask=mask == 0)


class GptBlock(nn.Module):
    """One step of a language model: keys and values before it come in and go out."""

    def __init__(self, words=20, size=16, heads=2):
        super().__init__()
        self.heads, self.words, self.norm = heads, nn.Embedding(words, size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 32), nn.GELU(approximate="tanh"), nn.Linear(32, size)
        )

    def forward(self, ids, place, keys, values):
        x = self.words(ids)
        batch, length, size = x.shape
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        keys, values = keys.index_copy(2, place, k), values.index_copy(2, place, v)
        mask = torch.arange(keys.shape[2]) <= place[:, None]
        y = F.scaled_dot_product_attention(q, keys, values, mask)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, size))
        return (x + self.feed(x)) @ self.words.weight.t(), keys, values


class WaveNet(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.first, self.last = nn.Conv1d(1, channels, 1), nn.Conv1d(channels, 4, 1)
        self.gates = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 2, dilation=d) for d in (1, 2, 4))
        self.out = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(3))

    def forward(self, x):
        x, total = self.first(x), 0
        for gate, out, d in zip(self.gates, self.out, (1, 2, 4), strict=True):
            a, b = gate(F.pad(x, (d, 0))).chunk(2, 1)
            y = out(torch.tanh(a) * torch.sigmoid(b))
            x, total = x + y, total + y
        return self.last(F.relu(total))


class Conformer(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(4))
        self.feed = nn.ModuleList(nn.Sequential(nn.Linear(size, 32), nn.SiLU(), nn.Linear(32, size)) for _ in range(2))
        self.attention, self.before, self.after = (
            Attention(size),
            nn.Conv1d(size, 2 * size, 1),
            nn.Conv1d(size, size, 1),
        )
        self.depthwise, self.batch_norm = nn.Conv1d(size, size, 7, padding=3, groups=size), nn.BatchNorm1d(size)

    def forward(self, x):
        x = x + 0.5 * self.feed[0](self.norms[0](x))
        x = x + self.attention(self.norms[1](x))
        y = F.glu(self.before(self.norms[2](x).transpose(1, 2)), 1)
        x = x + self.after(F.silu(self.batch_norm(self.depthwise(y)))).transpose(1, 2)
        return self.norms[3](x + 0.5 * self.feed[1](x))


def picture(size=32):
    return (torch.randn(2, 3, size, size),)


CACHE = torch.randn(1, 2, 6, 8)
# name: the model, its inputs, and how many transposes it may have: those of the source, one in and one out
MODELS = {
    "resnet": (resnet, picture(), 1), "mobilenet_v2": (mobilenet_v2, picture(), 1),
    "mobilenet_v3": (mobilenet_v3, picture(), 1), "efficientnet": (efficientnet, picture(), 1),
    "convnext": (convnext, picture(), 1), "vision transformer": (VisionTransformer, picture(), 1 + 2 * 2),
    "swin": (Swin, picture(), 1 + 2 * 4), "u-net": (UNet, picture(), 2), "densenet": (densenet, picture(), 1),
    "regnet": (regnet, picture(), 1), "shufflenet": (shufflenet, picture(), 1 + 2),
    "inception": (inception, picture(), 1),
    "deeplab": (DeepLab, picture(), 2), "mixer": (Mixer, picture(), 1 + 2), "detector": (Detector, picture(), 1),
    "generator": (Generator, picture(), 2 + 1), "autoencoder": (Autoencoder, picture(), 2 + 1),
    "text encoder": (TextEncoder, (torch.randint(0, 20, (2, 7)), torch.tensor([[1] * 7, [1] * 5 + [0] * 2])), 99),
    "gpt with a cache": (GptBlock, (torch.tensor([[3]]), torch.tensor([2]), CACHE, CACHE + 1), 4),
    "wavenet": (WaveNet, (torch.randn(2, 1, 20),), 2), "conformer": (Conformer, (torch.randn(2, 9, 16),), 2),
}  # fmt: skip
