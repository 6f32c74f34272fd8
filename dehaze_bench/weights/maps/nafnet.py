"""megvii-research/NAFNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def map_nafnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names are theirs."""
    return dict(published)
