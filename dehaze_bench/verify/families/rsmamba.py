"""RSMamba; the shuffles of its third path are stored in the fixture."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.models.backbones.rsmamba import GatedPaths, RSMamba
from dehaze_bench.scans import Grid, Scan, planar
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.families.branches import refuse, take_words
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.rsmamba import map_rsmamba

# Paths, and how they are merged.
PATHS = {
    "forward": ("forward", "sum"),
    "forward_reverse_mean": ("both", "mean"),
    "forward_reverse_gate": ("both", "gate"),
    "forward_reverse_shuffle_mean": ("three", "mean"),
    "forward_reverse_shuffle_gate": ("three", "gate"),
}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes, without a classifier unless it has classes."""
    arguments.optional("arch", "")  # what it sets is in the other arguments
    allow(arguments, "norm", "LayerNorm eps 1e-6")
    dim, depth = arguments.take("dim"), arguments.take("depth")
    paths, merge = take_words(arguments, "path_type", PATHS)
    order = planar.raster if paths == "forward" else planar.bidirectional
    scan = None if paths == "three" else Scan(paths, order, merge)
    position = arguments.expect("position", "learned", "none")
    names = ("d_state", "d_conv", "dt_rank", "patch", "stride", "conv_bias", "proj_bias", "patch_bias")
    sizes = {name: arguments.take(name) for name in names}
    network = RSMamba(
        dim,
        depth,
        expand=(arguments.take("intermediate") + 0.5) / dim,  # cut to a whole number of channels
        image_size=arguments.take("img_size"),
        position=position,
        num_classes=arguments.optional("classes", 0),
        scan=scan or Scan(paths, planar.multipath, merge),
        **sizes,
    )
    layers = [layer for layer in network.layers if isinstance(layer, GatedPaths)]
    if paths == "three":
        stored = fixture.array("permutations")
        if stored.shape[0] != depth:
            raise refuse(arguments, "depth", depth, f"the {stored.shape[0]} layers that have stored permutations")
        for layer, permutation in zip(layers, stored, strict=True):
            layer.scan = Scan("stored", partial(_stored, permutation), merge)
    taps = {"stem": Tap("tokens.patch_embed", to_tokens), "ln1": Tap("ln1")}
    for i, layer in enumerate(layers):
        taps[f"mixer{i}"] = Tap(f"layers.{i}.merge", partial(_stack_paths, layer), side="input")
        if merge == "gate":
            taps[f"gate{i}"] = Tap(f"layers.{i}.merge.weigh", partial(torch.softmax, dim=-1))

    def call(image: Tensor) -> dict[str, Tensor]:
        found = {"out": network(image)}
        if paths == "three":  # as they were walked
            found["permutations"] = torch.stack([_routes(layer, stored.shape[1])[2] for layer in layers])
        return found

    return Built(network, map_rsmamba, (fixture.image(),), taps, call)


def _stored(permutation: np.ndarray, grid: Grid) -> np.ndarray:
    return np.concatenate([planar.bidirectional(grid), permutation[None]])


def _stack_paths(layer: GatedPaths, y_BKLC: Tensor) -> Tensor:
    """Return the paths in visiting order, one after the other in the batch, as the published code computes them."""
    return torch.cat([y_BKLC[:, k, index_L] for k, index_L in enumerate(_routes(layer, y_BKLC.shape[2]))])


def _routes(layer: GatedPaths, num_tokens: int) -> Tensor:
    (routes,) = layer.scan.on((1, num_tokens))
    return routes.index_KL
