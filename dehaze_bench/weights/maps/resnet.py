"""torchvision's ResNet: the names are ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def map_resnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Nothing to rename."""
    return dict(published)
