"""AlphacatPlus/VmambaIR, both variants, whole or a scan alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels

RULES = (
    (r"(^|\.)xc_proj_weight$", r"\1channels.core.x_proj_weight"),
    (r"(^|\.)dtc_projs_(weight|bias)$", r"\1channels.core.dt_projs_\2"),
    (r"(^|\.)Ac_logs$", r"\1channels.core.A_logs"),
    (r"(^|\.)Dsc$", r"\1channels.core.Ds"),
    (r"(^|\.)conv_cin\.", r"\1channels.spread."),
    (r"(^|\.)conv_cout\.", r"\1channels.join."),
    (r"(^|\.)channel_norm\.", r"\1channels.norm."),
    (r"(^|\.)(in|out)_conv\.", r"\1\2_proj."),
)
LINEAR = re.compile(r"(^|\.)(in_proj|out_proj|spread|join)\.weight$")


def map_vmambair(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a scan have names of their own; its 1x1 convolutions are linear maps here."""
    renamed = map_four_levels(published, *RULES)
    return {name: tensor.flatten(1) if LINEAR.search(name) else tensor for name, tensor in renamed.items()}
