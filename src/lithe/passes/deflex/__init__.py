"""Operators of TensorFlow in a `.tflite` file ("Flex") as builtins: the rules by family, and their application."""

from lithe.passes.deflex.draft import RULES as RULES
from lithe.passes.deflex.expand import as_builtins as as_builtins
from lithe.passes.deflex.expand import deflex_module as deflex_module
from lithe.passes.deflex.expand import refuse_without_tensorflow as refuse_without_tensorflow
from lithe.passes.deflex.expand import remaining as remaining
