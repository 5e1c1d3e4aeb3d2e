"""Layers that remember: recurrent networks in all their forms."""

from lithe.ops.recurrent import basic as basic
from lithe.ops.recurrent import bidirectional as bidirectional
from lithe.ops.recurrent import gru as gru
from lithe.ops.recurrent import sequence_lstm as sequence_lstm
from lithe.ops.recurrent import svdf as svdf
