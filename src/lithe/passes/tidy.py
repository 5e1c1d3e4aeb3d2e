"""From a graph as a framework spells it to one as the format means it: float models, the same numbers to rounding.

batch normalization in weights, activations in the operators before, padding in windows, formulas as one builtin
"""

from __future__ import annotations

from lithe.ir.graph import Graph
from lithe.passes.activations import as_activation, fuse_activation
from lithe.passes.affine import (
    as_product,
    drop_nothing,
    fold_into_next_weights,
    fold_into_weights,
    merge_constants,
)
from lithe.passes.broadcasts import drop_broadcast, drop_identity_broadcast
from lithe.passes.longhand import (
    as_elu,
    as_prelu,
    as_scaled_elu,
    as_softplus,
    as_squared_difference,
    as_tanh_of_softplus,
    known_choice,
    subtract_product,
)
from lithe.passes.merge_reshapes import drop_identity_reshape, merge_reshapes
from lithe.passes.past_reshapes import as_strided_slice, keep_rows, pass_inserted_axes, pass_reshape, without_ones
from lithe.passes.patterns import as_formula, as_logits, as_mean, as_softmax, drop_shift, keep_reduced_axes
from lithe.passes.pipeline import Pass, pipeline, run
from lithe.passes.remove_dead import remove_dead
from lithe.passes.rewrite import rewrite
from lithe.passes.same_padding import as_average, fold_pad
from lithe.passes.scales import move_scales
from lithe.passes.share import share_equal_nodes

SPELLING = (
    drop_broadcast, drop_identity_broadcast, merge_reshapes, drop_identity_reshape, keep_reduced_axes, as_activation,
    as_softmax, as_logits, drop_shift, as_mean, known_choice, as_elu, as_scaled_elu, as_formula,
    as_prelu,
)  # fmt: skip
FOLDING = (
    pass_reshape, pass_inserted_axes, without_ones, keep_rows, merge_reshapes, drop_identity_reshape, as_product,
    merge_constants, drop_nothing, as_mean, as_average, as_activation, as_formula, as_softplus, as_tanh_of_softplus,
    as_squared_difference, subtract_product, fold_into_weights, fold_into_next_weights, fold_pad,
)  # fmt: skip


def recognise(graph: Graph) -> None:
    """Formulas become the builtins that stand for them. No constant is changed yet."""
    share_equal_nodes(graph)
    rewrite(graph, *SPELLING)


def fold(graph: Graph) -> None:
    """What constants say is computed now, and goes into weights."""
    rewrite(graph, *FOLDING)
    move_scales(graph)
    rewrite(graph, *FOLDING)


def fuse(graph: Graph) -> None:
    """Activations become part of the operators before them."""
    rewrite(graph, fuse_activation, as_strided_slice)


TIDY = pipeline(
    Pass(recognise, gives=("formulas recognised",)),
    Pass(fold, needs=("formulas recognised",), gives=("constants folded",)),
    Pass(fuse, needs=("constants folded",)),
    Pass(remove_dead),
)


def tidy(graph: Graph) -> Graph:
    """Applies all of it to the graph itself."""
    return run(graph, TIDY)
