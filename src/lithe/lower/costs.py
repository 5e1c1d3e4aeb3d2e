"""What schedules cost, as numbers: the model by which one of several is chosen, the same on every machine.

Measured on a Zen 4 core, like all of what `lithe.load(..., tune=True)` then looks at anew for the machine at hand.
How loops are shared out among threads has its numbers in `lithe.lower.share_out`.
"""

from __future__ import annotations

# Tiles of sums, in multiplications of a whole vector.
A_LOAD = 0.55  # to load a vector of weights, or an element of the left matrix
A_NARROW_VECTOR = 0.5  # at least, however few lanes are used
MOST_PIXELS = 24  # of a tile

# Winograd's form.
LEAST_CHANNELS = 16  # with fewer, making V and Y costs as much as is saved
WIDE = 64  # channels of a panel, about
# Weights take 16 / 9 of their bytes. Where those lie beyond the second-level cache and few squares meet them, reading
# them takes the time: 7 x 7 outputs and 512 x 512 channels took 3.7 ms, direct sums 2.3; both 1.4 with weights at hand.
FAR_WEIGHTS, MANY_SQUARES = 1 << 21, 24
FEWEST_SQUARES = 7  # of a band; with fewer, reading the weights again for each band costs more than the cache saves

# Sparse weights, in multiplications of a vector by a dense product at the peak: for each weight that is left (its place
# and value must be loaded), and for each element that is turned. Fitted to times of layers with 96 x 576, 576 x 96,
# 24 x 144 and 192 x 32 channels, 70, 80 and 90 % of them zero: 1.0 to 1.9, and 0.6 to 0.8.
A_WEIGHT, AN_ELEMENT = 1.5, 0.8
FEWEST_PIXELS = 16

# Other limits.
LARGEST_WINDOW = 49  # taps of a depthwise window; more would unroll into too much code
FEW_PIXELS = 4  # that meet packed weights; with more, reading the weights is not what takes time
