"""Hazy and clear pictures, made on the fly, bundled or in folders, and the batches taken from them."""

from __future__ import annotations

from dehaze_bench.data.deadleaves import DeadLeaves
from dehaze_bench.data.layouts import FolderCrops, FolderPairs
from dehaze_bench.data.loader import Batch, TrainingSet, batches
from dehaze_bench.data.pairs import Sample, TestPair, decoder, read_image
from dehaze_bench.data.photos import Photos
from dehaze_bench.data.sampler import indices
from dehaze_bench.data.scenes import Scenes

__all__ = [
    "Batch",
    "DeadLeaves",
    "FolderCrops",
    "FolderPairs",
    "Photos",
    "Sample",
    "Scenes",
    "TestPair",
    "TrainingSet",
    "batches",
    "decoder",
    "indices",
    "read_image",
]
