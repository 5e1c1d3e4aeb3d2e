"""Uses of ATen's operators: functions that give several results, and their inputs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

random = torch.Generator().manual_seed(1)


def normal(*shape):
    return torch.randn(shape, generator=random)


def positive(*shape):
    return torch.rand(shape, generator=random) + 0.1


def integers(*shape, high=5, dtype=torch.int64):
    return torch.randint(0, high, shape, generator=random, dtype=dtype)


X, Y = normal(2, 3, 4), normal(2, 3, 4)
PICTURE = normal(2, 4, 7, 6)
INDEX = integers(2, 3, 4, high=3)
MASK = normal(2, 3, 4) > 0
WEIGHT, WEIGHT_1, WEIGHT_3 = normal(6, 4, 3, 3), normal(6, 4, 3), normal(6, 4, 2, 3, 3)
GROUPED, DEPTHWISE = normal(6, 2, 3, 3), normal(8, 1, 3, 3)
BACK, BACK_1 = normal(4, 3, 3, 3), normal(4, 3, 3)
BIAS = normal(6)
TABLE = normal(9, 5)
PAIRS, POSITIVE = normal(2, 4, 4), positive(6)
SCALE, SHIFT, MEAN, VARIANCE = positive(4), normal(4), normal(4), positive(4)


def in_place(x):
    y = x * 2
    y.add_(1).relu_()
    y[:, 1] = 3.0
    y[..., ::2] += 1
    return y


def put(x, i):
    a, b = x.clone(), x.clone()
    a[:, i[0, 0, :2]] = 7.0
    b[:, :, i[0, 0, :1]] = 5.0
    return a, b, x.masked_fill(x > 0, -1.0)


def as_windows(x):
    return x.unfold(2, 3, 2), F.unfold(x, 3, stride=2)


CASES = {
    "unary": (lambda x: (
        x.abs(), x.ceil(), x.cos(), x.exp(), x.floor(), -x, x.relu(), x.round(), x.sigmoid(), x.sign(), x.sin(),
        x.square(), x.tanh(), x.sgn(), F.relu6(x), F.hardswish(x), x.trunc(), x.frac(), x.erf(), x.erfc(),
        x.expm1(),
        x.exp2(), x.sinh(), x.cosh(), x.tan(), x.atan(), x.asinh(), x.deg2rad(), x.rad2deg(), torch.special.sinc(x),
    ), X),
    "unary of positive": (lambda x: (
        x.sqrt(), x.rsqrt(), x.log(), x.log2(), x.log10(), x.log1p(), x.reciprocal(), (x + 1).acosh(),
        (x * 0.8).atanh(), (x * 0.8).asin(), (x * 0.8).acos(), x.pow(2.5), x**3, x**-1, x**0.5,
        x**-0.5, x**2, 2**x, x.pow(1),
    ), positive(2, 3, 4)),
    "activations": (lambda x: (
        F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.mish(x), F.hardsigmoid(x), F.hardtanh(x),
        F.hardtanh(x, -2, 0.5), F.elu(x), F.elu(x, 0.5), F.celu(x, 0.7), F.selu(x), F.leaky_relu(x, 0.1),
        F.softplus(x), F.softplus(x, 2.0, 3.0), F.softsign(x), F.logsigmoid(x), F.tanhshrink(x), F.hardshrink(x),
        F.softshrink(x), F.threshold(x, 0.1, -3.0), F.glu(x, -1), F.glu(x[:, :2], 1), F.softmin(x, -1),
        F.rrelu(x), F.dropout(x, 0.3, False), F.prelu(x, torch.tensor([0.1, 0.2, 0.3])),
        F.prelu(x, torch.tensor([0.4])),
    ), X),
    "binary": (lambda x, y: (
        x + y, x - y, x * y, x / y, torch.maximum(x, y), torch.minimum(x, y), torch.atan2(x, y), x.add(y, alpha=2),
        x.sub(y, alpha=0.5), torch.rsub(x, y), 1 - x, x / 4, x / 3, 3 / x, x % 0.7, torch.fmod(x, 0.7), x // 0.3,
        torch.div(x, y, rounding_mode="trunc"), torch.hypot(x, y), torch.copysign(x, y), torch.lerp(x, y, 0.3),
        torch.addcmul(x, x, y, value=0.5), torch.addcdiv(x, x, y), torch.logaddexp(x, y), torch.fmax(x, y),
        torch.fmin(x, y), x.clamp(-1, 1), x.clamp(0, 1), x.clamp(0, 6), x.clamp(min=0), x.clamp(max=0.3),
        x.clamp(y - 1, y + 1), torch.clamp_min(x, 0.1), torch.clamp_max(x, 0.1), torch.special.xlogy(x, y.abs()),
    ), X, Y),
    "comparisons": (lambda x, y: (
        x == y, x != y, x < y, x <= y, x > y, x >= y, x < 0, torch.where(x > y, x, y), torch.where(x > 0, x, 0.0),
        torch.isnan(x), torch.isinf(x), torch.isfinite(x), torch.nan_to_num(x), x.masked_fill(x > 0, 2.0),
        (x > 0) & (y > 0), (x > 0) | (y > 0), (x > 0) ^ (y > 0), ~(x > 0), torch.logical_not(x),
        torch.logical_and(x, y), torch.logical_or(x, y), torch.logical_xor(x, y), (x > 0) * 3, (x > 0) == (y > 0),
    ), X, Y),
    "integers": (lambda i: (
        i + 1, i * 2, i - 7, -i, i.abs(), i // 2, i % 3, i == 2, i.float() / 2, i / 2, i.to(torch.int32), i.sum(),
        i.max(), i.cumsum(-1), torch.bitwise_xor(i.int(), 5), i.int() >> 1, i.int() << 2,
        torch.bitwise_right_shift(i.int(), 1), i.fmod(3), torch.bitwise_left_shift(i.int(), 2), ~i.int(),
        i.clamp(1, 3),
        i.sqrt(), torch.isfinite(i), i.bool(), i.float().int(), i.type_as(torch.zeros(1)), (i - 2).abs(),
        torch.div(i.int(), 2, rounding_mode="floor"), (i.int() @ i.int().transpose(1, 2)),
    ), INDEX),
    "reductions": (lambda x: (
        x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.mean(), x.mean(-1), x.prod(1), x.amax(1), x.amin((0, 1)),
        x.max(), x.min(), *x.max(1), *x.min(2, keepdim=True), x.argmax(1), x.argmin(), x.argmax(-1, keepdim=True),
        (x > 0).any(), (x > 0).all(1), x.var(), x.var(1, correction=0), x.std(2), *torch.var_mean(x, 1),
        *torch.std_mean(x), x.logsumexp(1), x.norm(), x.norm(dim=1), x.norm(p=1, dim=2), x.norm(p=math.inf, dim=1),
        x.norm(p=3, dim=1), torch.linalg.vector_norm(x, dim=-1), x.nansum(1), torch.count_nonzero(x, 1),
        x.cumsum(1), x.cumprod(2), torch.logcumsumexp(x, 1), F.normalize(x, dim=1),
        F.cosine_similarity(x, x + 1, dim=1), x.softmax(-1), x.softmax(1), x.log_softmax(0), x.log_softmax(-1),
    ), X),
    "orders": (lambda x: (
        *x.topk(2), *x.topk(2, 1, largest=False), *x.sort(), *x.sort(1, descending=True), x.argsort(-1),
        torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])), torch.cdist(x, x + 1),
    ), X),
    "shapes": (lambda x: (
        x.view(6, 4), x.reshape(2, -1), x.flatten(1), x.unflatten(2, (2, 2)), x.unsqueeze(1), x[:1].squeeze(0),
        x.permute(2, 0, 1), x.transpose(1, 2), x[0].t(), x.mT, x.swapaxes(0, 2), x.movedim(0, 2),
        x[:, :, None].expand(2, 3, 5, 4), x.broadcast_to(3, 2, 3, 4), x.repeat(2, 1, 3), x[:1].repeat(3, 1, 1),
        x.repeat_interleave(2, 1), x.repeat_interleave(3), torch.tile(x, (2,)), x.clone(), x.detach().contiguous(),
        x.expand_as(x), x.ravel(), torch.atleast_3d(x),
    ), X),
    "parts": (lambda x: (
        x[:, 1:], x[..., ::2], x[:, -2], x[-1], x[:, :-1, 1:3], x.select(1, 2), x.narrow(2, 1, 2), x[:, 0:100],
        *x.split(2, 2), *x.split([1, 2], 1), *x.chunk(2, -1), *x.unbind(1), *torch.tensor_split(x, 2, 2),
        torch.cat([x, x + 1], 1), torch.stack([x, x + 1], 1), torch.cat([torch.zeros(0), x[0, 0]]), x.flip(1, 2),
        x.roll(1, 1), x.roll((1, 2), (1, 2)), x.roll(5), x[0].diagonal(), torch.diag(x[0, :3, :3]), x.tril(),
        x.triu(1),
        (x > 0).tril(-1), torch.hstack([x, x]), torch.meshgrid(x[0, 0], x[1, 0], indexing="ij")[0],
    ), X),
    "pads": (lambda x: (
        F.pad(x, (1, 2)), F.pad(x, (1, 0, 2, 1), value=3.0), F.pad(x, (-1, 1)),
        F.pad(x, (1, 2, 2, 1), mode="reflect"),
        F.pad(x, (1, 2, 2, 1), mode="replicate"), F.pad(x, (1, 2, 0, 1), mode="circular"), F.pad(x > 0, (1, 1)),
        F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[:, :, :6], 2), F.pixel_unshuffle(x[:, :1, :6], 3),
        F.pixel_shuffle(torch.cat([x, x], 1), 2), F.channel_shuffle(x, 2),
    ), PICTURE),
    "windows": (as_windows, PICTURE),
    "made": (lambda x: (
        torch.zeros(2, 3) + x[0, 0, 0], torch.ones(2, 2), torch.full((2, 2), 3.0), torch.zeros_like(x),
        torch.ones_like(x),
        torch.full_like(x, 2.0), x.new_zeros(3), x.new_ones(2), x.new_full((2,), 4.0), torch.arange(5) + x[0, 0, 0],
        torch.arange(1, 9, 3), torch.linspace(0, 1, 5), torch.eye(3), torch.tensor(2.5) * x, torch.zeros(40, 40),
        x.new_empty(3).fill_(2.0), torch.scalar_tensor(3.0) + x, torch.empty_like(x).zero_(), torch.full((2,), 2),
        torch.empty(2, 3).copy_(x[0, 0, :3]),
    ), X),
    "in place": (in_place, X),
    "look-ups": (lambda x, i, t: (
        F.embedding(i, t), x.index_select(1, i[0, 0, :2]), x.gather(1, i), x.gather(2, i[:, :2, :2]), x[:, i[0, 0]],
        x[i[0, 0, :2] % 2, i[1, 0, :2]], x[:, i[0, 0, :2], i[1, 0, :2]], t[i], x.take_along_dim(i, 1),
        F.one_hot(i, 5), x[i[0, 0, :2] % 2, :, i[1, 0, :2]], x[[0, -1]], x[:, [0, 2]],
    ), X, INDEX, TABLE),
    "puts": (put, X, INDEX),
    "scatters": (lambda x, y, i: (
        x.scatter(1, i[:, :1], 9.0), torch.zeros(2, 3, 4).scatter_add(1, i, y), x.scatter(1, i[:, :1], y),
        x.slice_scatter(y[:, :2], 1, 1, 3), x.select_scatter(y[:, 0], 1, 2),
        x.index_copy(1, torch.tensor([1]), y[:, :1]),
        x.index_copy(1, torch.tensor([2, 0]), y[:, :2]), x.index_add(1, torch.tensor([2, 0]), y[:, :2]),
        x.index_put((torch.tensor([0, 1]), torch.tensor([2, 0])), y[:, 0], accumulate=True),
    ), X, Y, INDEX),
    "convolutions": (lambda x: (
        F.conv2d(x, WEIGHT), F.conv2d(x, WEIGHT, BIAS, 2, 1), F.conv2d(x, WEIGHT, BIAS, (1, 2), (2, 0), (1, 2)),
        F.conv2d(x, GROUPED, BIAS, groups=2), F.conv2d(x, DEPTHWISE, groups=4, padding="same"),
        F.conv2d(x[0], WEIGHT),
        F.conv1d(x[:, :, 0], WEIGHT_1, BIAS, 2, 1), F.conv1d(x[:, :, 0], WEIGHT_1, padding="same", dilation=2),
        F.conv_transpose2d(x, BACK, None, 2), F.conv_transpose2d(x, BACK, BIAS[:3], 2, 1, 1),
        F.conv_transpose2d(x, torch.cat([BACK, BACK], 1)[:, :4], groups=2, stride=2, padding=1),
        F.conv_transpose1d(x[:, :, 0], BACK_1, stride=2, padding=1, output_padding=1),
        F.conv_transpose2d(x, BACK, dilation=2), F.conv2d(x, WEIGHT, padding="valid"),
    ), PICTURE),
    "volumes": (lambda x: (
        F.conv3d(x, WEIGHT_3, BIAS, padding=(1, 1, 1)), F.conv3d(x, WEIGHT_3, stride=2), F.max_pool3d(x, 2),
        F.max_pool3d(x, 3, 1, 1), F.avg_pool3d(x, (1, 2, 3), 2), F.adaptive_avg_pool3d(x, 1),
    ), normal(1, 4, 4, 6, 6)),
    "pools": (lambda x: (
        F.max_pool2d(x, 2), F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.max_pool2d(x, 2, 1, 0, 2), F.avg_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 1, 1),
        F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), F.avg_pool2d(x, 2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, True, True), F.avg_pool2d(x, 2, divisor_override=3), F.adaptive_avg_pool2d(x, 1),
        F.adaptive_avg_pool2d(x, (7, 3)), F.adaptive_avg_pool2d(x, (3, 4)), F.adaptive_max_pool2d(x, 1),
        F.adaptive_max_pool2d(x, (7, 2)), F.adaptive_max_pool2d(x, (3, 4)), F.max_pool1d(x[:, :, 0], 2),
        F.avg_pool1d(x[:, :, 0], 3, 2, 1), F.adaptive_avg_pool1d(x[:, :, 0], 4),
        F.adaptive_max_pool1d(x[:, :, 0], 3),
        F.max_pool2d(x[0], 2), F.lp_pool2d(x.abs(), 2, 2), F.avg_pool2d(x[0], 2),
        F.avg_pool1d(x[:, :, 0], 4, ceil_mode=True),
    ), PICTURE),
    "products": (lambda x, y: (
        x @ y.transpose(1, 2), F.linear(x, TABLE[:, :4]), F.linear(x, TABLE[:, :4], TABLE[:, 0]), x @ TABLE[:4],
        x[0] @ y[0].t(), x[0] @ y[0, 0], torch.dot(x[0, 0], y[0, 0]), torch.bmm(x, y.mT), x[0, 0] @ y[0].t(),
        torch.addmm(y[0, :, :3], x[0], y[1].t(), beta=0.5, alpha=2), torch.baddbmm(y[..., :3], x, y.mT),
        torch.einsum("bij,bkj->bik", x, y), torch.einsum("bij,jk->ikb", x, TABLE[:4]),
        torch.outer(x[0, 0], y[0, 0]),
        torch.matmul(x[:, None], y.mT), F.bilinear(x, y, PAIRS, torch.tensor([1.0, 2.0])),
        F.linear(x, y[0]), torch.mv(x[0], y[0, 0]), torch.mm(x[0], y[0].t()), torch.inner(x, y[0]),
        F.linear(x[0, 0], TABLE[:, :4]),
        torch.kron(x[0], y[0]), torch.tensordot(x, y, ([2], [2])), torch.addmm(TABLE[0], x[0], TABLE[:4]),
        torch.einsum("ij,jk", x[0], TABLE[:4]),
    ), X, Y),
    "norms": (lambda x: (
        F.batch_norm(x, MEAN, VARIANCE, SCALE, SHIFT), F.batch_norm(x, MEAN, VARIANCE), F.layer_norm(x, (7, 6)),
        F.layer_norm(x, (6,), POSITIVE, BIAS), F.group_norm(x, 2), F.group_norm(x, 2, SCALE, SHIFT),
        F.instance_norm(x), F.instance_norm(x, weight=SCALE, bias=SHIFT),
        F.instance_norm(x, MEAN, VARIANCE, use_input_stats=False),
        F.rms_norm(x, (6,)), F.rms_norm(x, (7, 6), eps=1e-3), F.local_response_norm(x, 3),
        F.batch_norm(x, None, None, training=True),
        F.batch_norm(x[:, :, 0, 0], MEAN, VARIANCE, SCALE, SHIFT),
    ), PICTURE),
    "attention": (lambda q, k, m: (
        F.scaled_dot_product_attention(q, k, k), F.scaled_dot_product_attention(q, k, k, is_causal=True),
        F.scaled_dot_product_attention(q, k, k, m > -1), F.scaled_dot_product_attention(q, k, k, m, scale=0.3),
        F.scaled_dot_product_attention(q, k[:, :2], k[:, :2], enable_gqa=True),
        F.scaled_dot_product_attention(q[0, 0], k[0, 0], k[0, 0]),
    ), normal(2, 4, 5, 8), normal(2, 4, 6, 8), normal(5, 6)),
    "resizing": (lambda x: (
        F.interpolate(x, scale_factor=2), F.interpolate(x, (5, 9)), F.interpolate(x, (10, 12), mode="bilinear"),
        F.interpolate(x, (10, 12), mode="bilinear", align_corners=True), F.interpolate(x, (4, 3), mode="bilinear"),
        F.interpolate(x, (10, 12), mode="bicubic"), F.interpolate(x, (10, 12), mode="bicubic", align_corners=True),
        F.interpolate(x[:, :, 0], 12), F.interpolate(x[:, :, 0], 12, mode="linear"),
        F.interpolate(x, (9, 9), mode="nearest-exact"),
    ), PICTURE),
    "spectra": (lambda x: (torch.fft.rfft(x).abs(), torch.view_as_real(torch.fft.rfft(x)), torch.fft.rfft(x).real,
                           torch.fft.rfft(x).imag), normal(2, 16)),
}  # fmt: skip
# What other tests use: recurrent layers, programs of a model in training, and what cannot be
ELSEWHERE = {
    "lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input", "dropout", "native_dropout", "nonzero",
    "masked_select", "item", "_local_scalar_dense", "lstm.data", "gru.data", "rnn_tanh.data", "rnn_relu.data",
    "_pack_padded_sequence", "_pad_packed_sequence", "lithe::opaque",
}  # fmt: skip
