"""A path or a URL becomes a `Clip`: fetch, probe, decode, sampling. Imports NumPy and PyAV, never torch."""
