"""dehaze_bench: train, evaluate and compare image-dehazing networks under one named protocol."""

__version__ = "0.1.0"
