"""The road in: a model of a framework becomes a graph of builtins.

    source --recognised--> front end --Conversion: builder, windows, matrices, control--> Module --> Model

A front end knows one framework and none of the others (Keras's stands on that of JAX, which traces its models). What
they share is in this folder's own files: open sizes, parts of tensors, windows, products, reductions, recurrent layers,
loops. `lithe.passes.tidy` makes better what they write.
"""

from lithe.conversion.door import convert as convert
