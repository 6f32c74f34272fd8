"""The scanned layer: one mixer run along every route of a scan.

Shape legend: B batch, H and W grid, L = H*W tokens, K routes, C model channels, D inner channels.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.scans import Scan


class ScannedLayer(nn.Module):
    """Gather the tokens along each route, mix, scatter them back, merge the routes.

    One mixer serves all routes (as in RSMamba, arXiv 2403.19654), so the number of parameters does not depend on
    the scan and an ablation compares orders alone. The merged tokens are normalised before they leave the mixer
    (as in VMamba's SS2D), so that a sum over four routes and a single route start at the same scale.
    """

    def __init__(self, mixer: Mixer, scan: Scan) -> None:
        super().__init__()
        if scan.merge == "concat":
            raise UsageError(
                "scan.merge=concat does not fit a scanned layer with one mixer for all routes: use sum or mean."
            )
        self.mixer, self.scan = mixer, scan
        self.norm = nn.LayerNorm(mixer.width)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, _ = x_BHWC.shape
        routes = self.scan.on((height, width), x_BHWC.device)
        s_BLD, gate_BLD = self.mixer.enter(x_BHWC.flatten(1, 2))
        if self.mixer.indexed and routes.is_permutation:
            y_BKLD = torch.stack([self.mixer.mix(s_BLD, order_L) for order_L in routes.index_KL], dim=1)
        else:
            y_NLD = self.mixer.mix(routes.gather(s_BLD).flatten(0, 1))
            y_BKLD = routes.scatter(y_NLD.unflatten(0, (batch, routes.num_routes)))
        y_BLD = self.norm(self.scan.combine(y_BKLD))
        return self.mixer.leave(y_BLD, gate_BLD).unflatten(1, (height, width))
