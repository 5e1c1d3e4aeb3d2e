"""Sound and spectra: transforms, windows, filter banks, streams of frames."""
