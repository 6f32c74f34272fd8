"""lhaof/nnMamba, the segmentation network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename

NUMBERED = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}  # of a sequence of two convolutions
RULES = (
    *((rf"^(in_conv|conv\d)\.conv\.{number}\.", rf"\1.{name}.") for number, name in NUMBERED.items()),
    (r"^in_conv\.", "stem."),
    *((rf"^att{i + 1}\.", f"decoder.scales.{i}.") for i in range(3)),
    *((rf"^conv{i + 5}\.", f"decoder.convs.{i}.") for i in range(3)),
    (r"^conv8\.", "decoder.last."),
    # One layer per stage, listed in every block that calls it: the last one counts, as it does for the published class.
    *((rf"^layer{i + 1}\.\d+\.mamba_layer\.", f"stages.{i}.mamba_layer.") for i in range(3)),
    *((rf"^layer{i + 1}\.", f"stages.{i}.blocks.") for i in range(3)),
)


def map_nnmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Encoder and decoder to parts of their own; the layer that a stage shares is listed once."""
    return rename(published, RULES)
