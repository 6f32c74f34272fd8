"""CompVis/zigma, without text, classes and videos."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens, stack_branches
from dehaze_bench.weights.maps.vmamba import rename

RULES = (
    (r"^x_embedder\.", "patch_embed."),
    (r"^t_embedder\.mlp\.0\.", "time.fc1."),
    (r"^t_embedder\.mlp\.2\.", "time.fc2."),
    (r"^blocks\.(\d+)\.adaLN_modulation\.1\.", r"layers.\1.mixer.condition."),
    (r"^blocks\.(\d+)\.mixer\.", r"layers.\1.mixer.mixer."),
    (r"^blocks\.", "layers."),
    (r"^final_layer\.linear\.", "final."),
)


def map_zigma(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mixer and modulation of a block together; a mixer has one branch, or two for the paths "v2"."""
    return stack_branches(place_tokens(rename(published, RULES)))
