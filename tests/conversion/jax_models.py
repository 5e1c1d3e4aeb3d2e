"""Small models in the shapes that people train, as functions of JAX: each is a whole architecture with few channels."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SIZE, HEADS, WORDS, PLACES = 16, 2, 23, 12
_seeds = itertools.count()


def weights(*shape):
    """Weights of which no two are equal, scaled so that a layer keeps the size of what goes through."""
    random = np.random.default_rng(next(_seeds))
    return jnp.asarray(random.standard_normal(shape) / np.sqrt(shape[0] if len(shape) > 1 else 4), jnp.float32)


def dense(inputs, outputs):
    kernel, bias = weights(inputs, outputs), weights(outputs)
    return lambda x: x @ kernel + bias


def layer_norm(size):
    scale, bias = 1 + weights(size), weights(size)

    def apply(x):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    return apply


def conv(inputs, outputs, size=3, stride=1, groups=1, activation=jax.nn.relu):
    """Convolution, batch normalization, activation."""
    kernel, shape = weights(size, size, inputs // groups, outputs), (outputs,)
    scale, bias, mean, variance = 1 + weights(*shape), weights(*shape), weights(*shape), 1 + jnp.abs(weights(*shape))
    form = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}

    def apply(x):
        y = lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", **form)
        return activation((y - mean) * lax.rsqrt(variance + 1e-3) * scale + bias)

    return apply


def feed_forward(size, activation=jax.nn.gelu):
    wide, narrow = dense(size, 2 * size), dense(2 * size, size)
    return lambda x: narrow(activation(wide(x)))


def heads_of(x):
    return x.reshape(*x.shape[:-1], HEADS, SIZE // HEADS)


def attention():
    """Of several heads; the mask is true where a key may be looked at."""
    query, key, value, out = (dense(SIZE, SIZE) for _ in range(4))

    def apply(x, mask=None):
        q, k, v = heads_of(query(x)), heads_of(key(x)), heads_of(value(x))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(SIZE // HEADS)
        if mask is not None:
            scores = jnp.where(mask, scores, -1e9)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
        return out(mixed.reshape(x.shape))

    return apply


def bert():
    """Words, places and segments; layers of attention with a mask; a pooled vector and one for each word."""
    words, places, kinds = weights(WORDS, SIZE), weights(PLACES, SIZE), weights(2, SIZE)
    first, pool = layer_norm(SIZE), dense(SIZE, SIZE)
    layers = [(attention(), layer_norm(SIZE), feed_forward(SIZE), layer_norm(SIZE)) for _ in range(2)]

    def apply(ids, mask, segments):
        x = first(words[ids] + places[jnp.arange(ids.shape[1])] + kinds[segments])
        allowed = mask[:, None, None, :] > 0
        for attend, norm, feed, last in layers:
            x = norm(x + attend(x, allowed))
            x = last(x + feed(x))
        return {"words": x, "pooled": jnp.tanh(pool(x[:, 0]))}

    return apply


def gpt(length=8, most=12):
    """A language model as two functions: what is read before, and one word after the other.

    Keys and values of both layers, [layers, batch, places, heads, size], go in and out.
    """
    words, places, last = weights(WORDS, SIZE), weights(most, SIZE), layer_norm(SIZE)
    layers = [(layer_norm(SIZE), dense(SIZE, 3 * SIZE), dense(SIZE, SIZE), layer_norm(SIZE), feed_forward(SIZE))
              for _ in range(2)]  # fmt: skip

    def run(ids, place, keys, values):
        x = words[ids] + places[place + jnp.arange(ids.shape[1])]
        allowed = jnp.arange(most) <= (place + jnp.arange(ids.shape[1]))[:, None]
        for i, (before, qkv, out, between, feed) in enumerate(layers):
            q, k, v = (heads_of(part) for part in jnp.split(qkv(before(x)), 3, -1))
            keys = lax.dynamic_update_slice(keys, k[None], (i, 0, place, 0, 0))
            values = lax.dynamic_update_slice(values, v[None], (i, 0, place, 0, 0))
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, keys[i]) / np.sqrt(SIZE // HEADS)
            mixed = jax.nn.softmax(jnp.where(allowed, scores, -1e9))
            x = x + out(jnp.einsum("bhqk,bkhd->bqhd", mixed, values[i]).reshape(x.shape))
            x = x + feed(between(x))
        return {"logits": last(x) @ words.T, "keys": keys, "values": values}

    cache = (len(layers), 1, most, HEADS, SIZE // HEADS)

    def prefill(ids):
        return run(ids, 0, jnp.zeros(cache), jnp.zeros(cache))

    inputs = {
        "prefill": {"ids": ((1, length), "int32")},
        "decode": {"ids": ((1, 1), "int32"), "place": ((), "int32"), "keys": cache, "values": cache},
    }
    return {"prefill": prefill, "decode": run}, inputs


def conformer():
    """Half a feed-forward part, attention, a gated depthwise convolution, and the other half."""
    first, second = (feed_forward(SIZE, jax.nn.silu) for _ in range(2))
    norms, attend = [layer_norm(SIZE) for _ in range(5)], attention()
    before, after, kernel = dense(SIZE, 2 * SIZE), dense(SIZE, SIZE), weights(7, 1, SIZE)
    scale, bias = 1 + weights(SIZE), weights(SIZE)

    def apply(x):
        x = x + 0.5 * first(norms[0](x))
        x = x + attend(norms[1](x))
        y = jax.nn.glu(before(norms[2](x)))
        y = lax.conv_general_dilated(
            y, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=SIZE
        )
        x = x + after(jax.nn.silu(y * scale + bias))
        return norms[4](x + 0.5 * second(norms[3](x)))

    return apply


def mel_filters(bins, bands, rate=8000):
    """Triangles of equal width in mel, over the bins of a spectrum."""
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1) / (rate / 2) * (bins - 1)
    at = np.arange(bins)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle))).astype(np.float32)


def audio_net(samples=512, frame=64, step=32):
    """Sound in, classes out: windows, spectrum, mel bands, depthwise separable convolutions."""
    places = np.arange(0, samples - frame + 1, step)[:, None] + np.arange(frame)
    window, filters = np.hanning(frame).astype(np.float32), mel_filters(frame // 2 + 1, 10)
    parts = [conv(1, 8, 3, 2), conv(8, 8, 3, 1, 8), conv(8, 12, 1), conv(12, 12, 3, 2, 12), conv(12, 16, 1)]
    head = dense(16, 4)

    def apply(sound):
        spectrum = jnp.fft.rfft(sound[:, places] * window)
        mel = jnp.log((spectrum.real**2 + spectrum.imag**2) @ filters + 1e-3)
        y = mel[..., None]
        for part in parts:
            y = part(y)
        return jax.nn.softmax(head(y.mean((1, 2))))

    return apply


def u_net():
    down, middle, after = [conv(3, 8), conv(8, 12)], conv(12, 16), [conv(24, 12), conv(16, 8)]
    up, last = [weights(2, 2, 16, 12), weights(2, 2, 12, 8)], conv(8, 2, 1, activation=lambda x: x)

    def apply(x):
        kept = []
        for part in down:
            kept.append(part(x))
            x = lax.reduce_window(kept[-1], -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = middle(x)
        for kernel, part in zip(up, after, strict=True):
            x = part(jnp.concatenate([lax.conv_transpose(x, kernel, (2, 2), "SAME"), kept.pop()], -1))
        return last(x)

    return apply


def overlaps(boxes):
    """Common area of each pair of boxes [y0, x0, y1, x1] over the area of both."""
    low = jnp.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = jnp.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), -1)
    area = jnp.prod(boxes[:, 2:] - boxes[:, :2], -1)
    return common / (area[:, None] + area[None] - common + 1e-6)


def suppress(boxes, scores, count, threshold=0.5):
    """Places of the best boxes of which none overlaps a better one, and their scores; -1 where there are no more."""
    covers = overlaps(boxes) > threshold

    def pick(state):
        i, left, places, found = state
        best = jnp.argmax(left)
        there = left[best] > 0
        places = places.at[i].set(jnp.where(there, best, -1))
        found = found.at[i].set(jnp.where(there, left[best], 0.0))
        return i + 1, jnp.where(covers[best], 0.0, left), places, found

    start = (0, scores, jnp.full(count, -1), jnp.zeros(count))
    return lax.while_loop(lambda state: state[0] < count, pick, start)[2:]


def ssd(anchors=3, classes=3, count=5):
    """Boxes around anchors from two sizes of features, and the best of them."""
    low, high = [conv(3, 8, 3, 2), conv(8, 12, 3, 2)], conv(12, 12, 3, 2)
    plain = {"activation": lambda x: x}
    places = [conv(12, anchors * 4, 3, **plain) for _ in range(2)]
    labels = [conv(12, anchors * (classes + 1), 3, **plain) for _ in range(2)]
    centres = []
    for n in (8, 4):
        y, x, size = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, np.array([0.8, 1.5, 2.5]) / n,
                                 indexing="ij")  # fmt: skip
        centres.append(np.stack([y, x, size, size], -1).reshape(-1, 4))
    around = np.concatenate(centres).astype(np.float32)

    def apply(image):
        x = image
        for part in low:
            x = part(x)
        features = [x, high(x)]
        moved = jnp.concatenate([f(y).reshape(-1, 4) for f, y in zip(places, features, strict=True)])
        logits = jnp.concatenate([f(y).reshape(-1, classes + 1) for f, y in zip(labels, features, strict=True)])
        centre = around[:, :2] + 0.1 * moved[:, :2] * around[:, 2:]
        half = around[:, 2:] * jnp.exp(jnp.clip(0.2 * moved[:, 2:], -2, 2)) / 2
        boxes = jnp.clip(jnp.concatenate([centre - half, centre + half], -1), 0, 1)
        known = jax.nn.softmax(logits)[:, 1:]
        chosen, scores = suppress(boxes, known.max(-1), count)
        safe = jnp.maximum(chosen, 0)
        return {"boxes": boxes[safe], "scores": scores, "classes": jnp.argmax(known, -1)[safe], "places": chosen}

    return apply


WORD = (("batch", "time"), "int32")
# name: the model, its inputs, and the most operators that it may have, those of other graphs included
MODELS = {
    "bert": (bert, {"ids": WORD, "mask": WORD, "segments": WORD}, 121),
    "conformer": (conformer, {"x": ("batch", 9, SIZE)}, 85),
    "audio net": (audio_net, {"sound": (2, 512)}, 21),
    "u-net": (u_net, {"x": ("batch", 16, 16, 3)}, 16),
    "ssd": (ssd, {"image": (1, 32, 32, 3)}, 93),
}  # fmt: skip
