"""Sound and spectra: transforms, windows, filter banks, streams of frames."""

from lithe.ops.signal import audio as audio
from lithe.ops.signal import filter_bank as filter_bank
from lithe.ops.signal import framing as framing
from lithe.ops.signal import signal_transforms as signal_transforms
from lithe.ops.signal import spectrum as spectrum
