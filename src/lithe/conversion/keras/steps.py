"""The loop over the steps of unusual recurrent layers: where their number is fixed, one is traced after the other."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from lithe.conversion.keras.tracing import Tracer

MOST = 128  # steps that are traced one after the other


def unrolled(tracer: Tracer, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for `keras.backend.rnn`, whose arguments it takes and whose results it gives."""

    def replacement(
        step_function: Callable[..., Any], inputs: Any, initial_states: Any, go_backwards: bool = False,
        mask: Any = None, constants: Any = None, time_major: bool = False, zero_output_for_mask: bool = False,
        return_all_outputs: bool = True, **options: Any,
    ) -> Any:  # fmt: skip
        ops, tree = (getattr(importlib.import_module("keras"), name) for name in ("ops", "tree"))
        axis = 0 if time_major else 1
        time = tree.flatten(inputs)[0].shape[axis]
        if not isinstance(time, int) or not 0 < time <= MOST or tree.is_nested(mask):
            return original(step_function, inputs, initial_states, go_backwards=go_backwards, mask=mask,
                            constants=constants, time_major=time_major, zero_output_for_mask=zero_output_for_mask,
                            return_all_outputs=return_all_outputs, **options)  # fmt: skip

        def chosen(counts: Any, new: Any, old: Any) -> Any:
            return tree.map_structure(
                lambda n, o: ops.where(ops.reshape(counts, (-1, *[1] * (len(n.shape) - 1))), n, o), new, old
            )

        states, more = list(initial_states), tuple(constants or ())
        outputs: list[Any] = []
        for t in reversed(range(time)) if go_backwards else range(time):
            taken = tree.map_structure(lambda x, t=t: ops.take(x, t, axis=axis), inputs)
            made, new = step_function(taken, (*states, *more))
            if mask is not None:
                counts = ops.cast(ops.take(mask, t, axis=axis), "bool")
                zero = zero_output_for_mask or not outputs
                made = chosen(counts, made, tree.map_structure(ops.zeros_like, made) if zero else outputs[-1])
                new = tree.pack_sequence_as(states, tree.flatten(chosen(counts, list(new), states)))
            states = list(new)
            outputs.append(made)
        kept = outputs if return_all_outputs else outputs[-1:]
        return outputs[-1], tree.map_structure(lambda *steps: ops.stack(steps, axis=axis), *kept), states

    return replacement
