"""zzr-idam/UVM-Net."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import stack_branches

STAGE = re.compile(r"^(down|up)(\d)\.(?:maxpool_conv\.1|conv)\.")


def map_uvmnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stages in lists; each core is a layer with one branch."""
    return stack_branches({_rename(name): tensor for name, tensor in published.items()})


def _rename(name: str) -> str:
    if found := STAGE.match(name):
        return f"{found[1]}s.{int(found[2]) - 1}.{name[found.end() :]}"
    return re.sub(r"^outc\.conv\.", "outc.", name)
