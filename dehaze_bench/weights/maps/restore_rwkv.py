"""Yaziwel/Restore-RWKV."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def map_restore_rwkv(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names are the published ones; a file may hold the branches of the shifts or their merged kernels alone."""
    return dict(published)
