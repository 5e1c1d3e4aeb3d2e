"""Recurrent layers in the operators that spell them out: steps one after another, or a loop.

sums    what an operand is a sum of: products with constant matrices, and a constant
cells   the equations of one step of an LSTM, a GRU or a simple RNN
chains  steps that lead to one another in one graph
loops   a WHILE whose rounds are steps

Everything is found from the operators and their operands, never from names. What is not proven is not found.
"""

from lithe.passes.recurrent.cells import Layer as Layer
from lithe.passes.recurrent.chains import Chain as Chain
from lithe.passes.recurrent.chains import find_chain as find_chain
from lithe.passes.recurrent.loops import Loop as Loop
from lithe.passes.recurrent.loops import find_loop as find_loop
