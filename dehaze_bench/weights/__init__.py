"""Weights: published files into our models through key maps, and our own files with their config inside."""

from __future__ import annotations

from dehaze_bench.weights.loading import (
    LoadInfo,
    load_encoder,
    load_own,
    load_published,
    load_strictly,
    read_metadata,
    save_own,
)

__all__ = ["LoadInfo", "load_encoder", "load_own", "load_published", "load_strictly", "read_metadata", "save_own"]
