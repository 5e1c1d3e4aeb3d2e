"""Strings, tokens and ragged tensors."""

from lithe.ops.text import ragged as ragged
from lithe.ops.text import sentencepiece as sentencepiece
from lithe.ops.text import smart_reply as smart_reply
from lithe.ops.text import tensorflow_text as tensorflow_text
from lithe.ops.text import tokens as tokens
