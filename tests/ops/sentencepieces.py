"""SentencePiece models in the converted form, written by an independent writer of flatbuffers."""

from __future__ import annotations

import flatbuffers
import numpy as np

# Slots of the tables EncoderConfig and DecoderConfig.
UNKNOWN_CODE, PENALTY, OFFSET, PIECES, SCORES, EXTRA_SPACES, PREFIX, ESCAPE, PREFIXES, REPLACEMENTS = range(3, 13)


def trie(entries: dict[bytes, int]) -> list[int]:
    """A double array of these entries: every node's children lie in a block of 256 of their own.

    The blocks are chosen so that distances are multiples of 256, which the format stores divided by it, with a mark.
    """
    nodes: list[int] = [0] * 256

    def place(at: int, words: dict[bytes, int]) -> int:
        """Puts a node's children behind the others; the stored distance from the node to them."""
        base = len(nodes) + at % 256
        nodes.extend([0] * 256)
        for label in sorted({w[0] for w in words if w}):
            rest = {w[1:]: v for w, v in words.items() if w and w[0] == label}
            child = base ^ label
            nodes[child] = label | (0x100 if b"" in rest else 0) | place(child, rest)
        if b"" in words:
            nodes[base] = 0x80000000 | words[b""]
        return (at ^ base) >> 8 << 10 | 0x200

    nodes[0] = place(0, entries)
    return nodes


def encoder(
    pieces: dict[str, float],
    *,
    replaced: dict[str, str] | None = None,
    unknown: int = 0,
    offset: int = 0,
    spaces: bool = True,
    version: int = 0,
) -> np.ndarray:
    """uint8: a model of these pieces and their scores; start code 1, end code 2."""
    b = flatbuffers.Builder(0)
    nodes = _trie(b, {piece.encode(): i for i, piece in enumerate(pieces)})
    scores = b.CreateNumpyVector(np.array(list(pieces.values()), np.float32))
    prefixes = values = 0
    if replaced:
        joined, places = b"", {}
        for before, after in replaced.items():
            places[before.encode()] = len(joined)
            joined += after.encode() + b"\0"
        prefixes, values = _trie(b, places), b.CreateByteVector(joined)
    b.StartObject(13)
    b.PrependInt8Slot(0, version, 0)
    b.PrependInt32Slot(1, 1, 0)
    b.PrependInt32Slot(2, 2, 0)
    b.PrependInt32Slot(UNKNOWN_CODE, unknown, -1)
    b.PrependFloat32Slot(PENALTY, -10.0, 0.0)
    b.PrependInt32Slot(OFFSET, offset, 0)
    b.PrependUOffsetTRelativeSlot(PIECES, nodes, 0)
    b.PrependUOffsetTRelativeSlot(SCORES, scores, 0)
    for slot in (EXTRA_SPACES, PREFIX, ESCAPE):
        b.PrependBoolSlot(slot, spaces, False)
    if replaced:
        b.PrependUOffsetTRelativeSlot(PREFIXES, prefixes, 0)
        b.PrependUOffsetTRelativeSlot(REPLACEMENTS, values, 0)
    b.Finish(b.EndObject())
    return np.frombuffer(bytes(b.Output()), np.uint8)


def _trie(b: flatbuffers.Builder, entries: dict[bytes, int]) -> int:
    nodes = b.CreateNumpyVector(np.array(trie(entries), np.uint32))
    b.StartObject(1)
    b.PrependUOffsetTRelativeSlot(0, nodes, 0)
    return int(b.EndObject())


def decoder(pieces: list[str], *, offset: int = 0, version: int = 0) -> np.ndarray:
    """uint8: a model that turns codes into these texts; a space before the first is taken away."""
    b = flatbuffers.Builder(0)
    texts = [b.CreateString(p) for p in pieces]
    b.StartVector(4, len(texts), 4)
    for text in reversed(texts):
        b.PrependUOffsetTRelative(text)
    vector = b.EndVector()
    b.StartObject(6)
    b.PrependInt8Slot(0, version, 0)
    b.PrependInt32Slot(1, offset, 0)
    b.PrependUOffsetTRelativeSlot(2, vector, 0)
    b.PrependBoolSlot(5, True, False)
    b.Finish(b.EndObject())
    return np.frombuffer(bytes(b.Output()), np.uint8)
