"""What the maps of the DehazeFormer line share: where the parts of its skeleton (nn/fused_levels.py) are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Published place -> ours. Ours counts stages and scales from 0, scales from the finest; so does gUNet. The others count
# from 1, and scales on the way up from the coarsest of their three.
PLACES = {
    r"(?:patch_embed|inconv)(?:\.proj)?": "patch_embed",
    r"(?:patch_unembed|outconv)(?:\.proj(?:\.0)?)?": "patch_unembed",
    r"layer(\d)(?:\.blocks)?": "layers.{below}",
    r"layers\.(\d+)(?:\.blocks)?": "layers.{same}",
    r"patch_merge(\d)(?:\.proj)?": "downs.{below}",
    r"fhsd(\d)": "downs.{below}",
    r"downs\.(\d)(?:\.proj)?": "downs.{same}",
    r"patch_split(\d)\.proj\.0": "ups.{mirrored}.conv",
    r"ups\.(\d)\.proj\.0": "ups.{same}.conv",
    r"(?:patch_split|fhsu)(\d)": "ups.{mirrored}",
    r"skip(\d)": "fusions.{below}.skip",
    r"skips\.(\d)": "fusions.{same}.skip",
    r"fusion(\d)\.(?:mlp|ffn)": "fusions.{mirrored}.weigh",
    r"fusion(\d)": "fusions.{mirrored}",
    r"fusions\.(\d)\.mlp\.1": "fusions.{same}.weigh.0",
    r"fusions\.(\d)\.mlp\.3": "fusions.{same}.weigh.2",
}
# Computed, not learned: positions in a window, filters of the wavelets.
COMPUTED = re.compile(r"\.relative_positions$|\.i?dwt\.[hg][01]_(?:col|row)$")


def map_levels(published: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename tensors, `parts` of a block as `rename` does; pointwise maps of one pixel lose the axes of the picture."""
    ours = {}
    for name, tensor in published.items():
        if COMPUTED.search(name):
            continue
        renamed = rename(name.removeprefix("module."), parts)
        if re.search(r"\.(?:weigh\.\d|meta[12])\.weight$", renamed):
            tensor = tensor.flatten(1)
        elif re.search(r"\.norm1\.(?:weight|bias)$", renamed):
            tensor = tensor.flatten()
        ours[renamed] = tensor
    return ours


def rename(path: str, parts: Mapping[str, str]) -> str:
    """Return our path of a published tensor or module; `parts` are patterns and replacements inside of a block."""
    for pattern, place in PLACES.items():
        found = re.match(rf"{pattern}(?=\.|$)", path)
        if found is not None:
            number = int(found[1]) if found.groups() else 0
            path = place.format(same=number, below=number - 1, mirrored=2 - number) + path[found.end() :]
            break
    for pattern, part in parts.items():
        path = re.sub(rf"(?<=\.){pattern}(?=\.|$)", part, path)
    return path
