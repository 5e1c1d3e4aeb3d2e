"""StableHLO's operators."""

from lithe.ops.stablehlo import contraction as contraction
from lithe.ops.stablehlo import elementwise as elementwise
from lithe.ops.stablehlo import movement as movement
from lithe.ops.stablehlo import places as places
from lithe.ops.stablehlo import random_bits as random_bits
from lithe.ops.stablehlo import sort as sort
