"""From a network to restored pictures: padding, tiles, photos and folders."""

from __future__ import annotations

from dehaze_bench.infer.pad import restore
from dehaze_bench.infer.photos import PhotoResult, Summary, restore_folder
from dehaze_bench.infer.tiling import restore_tiled

__all__ = ["PhotoResult", "Summary", "restore", "restore_folder", "restore_tiled"]
