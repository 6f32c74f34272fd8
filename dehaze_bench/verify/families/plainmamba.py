"""PlainMamba, whole or its mixer alone."""

from __future__ import annotations

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.plainmamba import CONTINUOUS, PlainMamba, PlainRoutes
from dehaze_bench.nn.ss2d import SS2D
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.families.vss import take_rank
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.plainmamba import map_plainmamba

NORM = "LayerNorm eps 1e-5 in the layers, 1e-6 at the end"


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `d_model` the mixer, that the fixture describes."""
    if "d_model" in arguments.left:
        return _build_mixer(fixture, arguments)
    arguments.expect("norm", NORM, NORM.replace(",", ";"))
    arguments.optional("arch", "")
    depth = arguments.take("depth")
    network = PlainMamba(
        dim=arguments.take("dim"),
        depth=depth,
        stem_convs=arguments.take("stem_convs"),
        dw_layers=arguments.take("dw_layers"),
        d_state=arguments.take("d_state"),
        expand=arguments.take("expand"),
        dt_rank=take_rank(arguments),
        conv=arguments.optional("conv_size", 7),
        bias=arguments.optional("bias", True),
        patch=arguments.optional("patch", 16),
        image_size=arguments.take("img_size"),
        num_classes=arguments.take("classes"),
    )
    found = {"stem": Tap("patch_embed", to_tokens), "norm": Tap("ln1", to_tokens)}
    found |= {f"mixer{i}": Tap(f"layers.{i}.mamba", to_tokens) for i in range(depth)}
    found |= {f"layer{i}": Tap(f"layers.{i}", to_tokens) for i in range(depth)}
    return Built(network, map_plainmamba, (fixture.image(),), found)


def _build_mixer(fixture: Fixture, arguments: BuildArguments) -> Built:
    mixer = SS2D(
        arguments.take("d_model"),
        CONTINUOUS,
        d_state=arguments.take("d_state"),
        ratio=arguments.take("expand"),
        dt_rank=take_rank(arguments),
        conv=arguments.take("conv_size"),
        bias=arguments.take("bias"),
        norm=False,
        core=PlainRoutes,
    )
    grid = tuple(arguments.take("grid"))
    tokens_BLC = fixture.image()
    if len(grid) != 2 or tokens_BLC.ndim != 3 or grid[0] * grid[1] != tokens_BLC.shape[1]:
        raise UsageError(f"{fixture.path}: a grid of {grid} does not fit an input of {tuple(tokens_BLC.shape)}.")
    found = {"in_proj": Tap("in_proj", to_tokens), "conv": Tap("conv2d")}
    return Built(mixer, map_plainmamba, (tokens_BLC,), found, lambda x_BLC: to_tokens(mixer(x_BLC.unflatten(1, grid))))
