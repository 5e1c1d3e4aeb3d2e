"""Layers with a state: the builders of the operator tests' rows, with random sizes, options and data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tests.ops.cases_convolution as constants_of_rows
from lithe.ops.op import dtype_named
from lithe.types import INT8, INT16, DType
from tests.grid.draw import Draw, Trial
from tests.grid.families.registry import generates
from tests.grid.families.rows import redrawn
from tests.ops.cases import Case
from tests.ops.cases_recurrent import layer, remembering, stored_layer
from tests.ops.cases_sequences import AGAIN, basic, both, plain

ACTIVATIONS = ("TANH", "TANH", "RELU", "RELU6", "NONE")


def sizes(d: Draw) -> dict[str, int]:
    return {"batch": d.choice((1, 1, 2, 3)), "time": d.choice((1, 2, 3, 5)), "depth": d.choice((1, 3, 7, 8, 17))}


def weights_of(d: Draw) -> DType | None:
    """The type of integer weights beside float activations."""
    return next((dtype_named(w) for w in d.inputs[1:] if w.rstrip("?").endswith("q")), None)


def trial(d: Draw, case: Case, **changes: Any) -> Trial:
    made = replace(redrawn(d, case), **changes)
    return Trial(replace(made, steps=max(made.steps, 1), tolerance=max(made.tolerance, 1e-4)))


@generates("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(d: Draw) -> Trial:
    constants_of_rows.RANDOM = d.random  # the builders draw some constants from it
    cells = d.choice((1, 4, 5, 9, 16))
    if len(d.outputs) > 1:
        quantized = d.inputs[0].startswith("uint8")
        return trial(d, basic("", d.choice((1, 2)), d.choice((1, 3, 8)), cells, quantized))
    outputs = d.choice((None, None, 1, 3, 8))
    options: dict[str, Any] = {**sizes(d), "cells": cells, "outputs": outputs, "op": d.op}
    options |= {name: d.chance(0.3) for name in ("coupled", "peephole", "normalized")}
    if d.op == "LSTM":
        options["time"] = 1
    elif d.chance(0.3):
        options["time_major"] = True
    if d.inputs[0].startswith("float"):
        weights = weights_of(d)
        options["projection_bias"] = outputs is not None and d.chance(0.4)
        options["cell_clip"] = d.choice((0.0, 0.0, 0.7))
        if weights is not None:
            options["asymmetric_quantize_inputs"] = d.chance(0.3)
        case = layer("", weights=weights, constant=weights is not None or d.chance(0.8), **options)
        return trial(d, case) if weights is None else trial(d, case, tolerance=max(case.tolerance, 0.03))
    return trial(d, stored_layer("", kind=INT8 if d.inputs[0].startswith("int8") else INT16, **options))


@generates("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(d: Draw) -> Trial:
    attrs: dict[str, Any] = {"fused_activation_function": d.choice(ACTIVATIONS)}
    weights = weights_of(d)
    units, constant = d.choice((1, 4, 5, 9, 17)), weights is not None or d.chance(0.8)
    if d.op != "RNN" and d.chance(0.4):
        attrs["time_major"] = True
    if weights is not None:
        attrs["asymmetric_quantize_inputs"] = d.chance(0.3)
    case = plain(d.op, "", **sizes(d), units=units, weights=weights, constant=constant, **attrs)
    return trial(d, case) if weights is None else trial(d, case, tolerance=max(case.tolerance, 0.03))


@generates("SVDF")
def svdf(d: Draw) -> Trial:
    constants_of_rows.RANDOM = d.random
    weights = weights_of(d) if d.inputs[0].startswith("float") else None
    kind = "float" if d.inputs[0].startswith("float") else dtype_named(d.inputs[2]).name
    case = remembering(
        "",
        batch=d.choice((1, 2, 3)),
        depth=d.choice((1, 3, 7, 16)),
        units=d.choice((1, 3, 5, 8)),
        memory=d.choice((1, 2, 6, 9)),
        rank=d.choice((1, 1, 2, 3)),
        kind=kind,
        bias=d.chance(0.7),
        activation=d.choice(("NONE", "RELU")) if kind == "float" else "RELU",  # integers have no other
        weights=weights,
        asymmetric=weights is not None and d.chance(0.3),
    )
    return trial(d, case) if weights is None else trial(d, case, tolerance=max(case.tolerance, 0.03))


@generates("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN")
def two_directions(d: Draw) -> Trial:
    weights = weights_of(d)
    options: dict[str, Any] = {**sizes(d), "forward": d.choice((1, 4, 5, 9)), "time_major": d.chance(0.5)}
    options["backward"] = options["forward"]
    if len(d.outputs) == 1:
        options["merge_outputs"] = options["time_major"] and d.chance(0.5)
    if d.op.endswith("LSTM"):
        options |= {"coupled": d.chance(0.3), "peephole": d.chance(0.3), "outputs": d.choice((None, None, 3))}
    case = both(d.op, "", weights=weights, **options)
    if weights is None:
        return trial(d, case)
    lost = {"official": False, "reason": AGAIN} if options["time_major"] else {}
    return trial(d, case, tolerance=max(case.tolerance, 0.03), **lost)
