"""The road in: a model of a framework becomes a graph of builtins.

    source --recognised--> front end --Conversion: builder, windows, matrices, control--> Module --> Model

A front end knows one framework and none of the others; what they share (open sizes, windows, products, recurrent
layers, loops) is in this folder's own files. `lithe.passes.tidy` makes better what they write.
"""

from lithe.conversion.door import convert as convert
