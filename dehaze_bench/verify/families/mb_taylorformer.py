"""MB-TaylorFormer."""

from __future__ import annotations

from dehaze_bench.models.restorers.mb_taylorformer import Level, MBTaylorFormer
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mb_taylorformer import map_mb_taylorformer


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes.

    The released code takes three arguments that it does not use: the kind of norm, which never has a bias, the
    expansion of the feed-forward layers, which is 2.66, and the blocks of the refinement, which are those of level 1.
    """
    arguments.optional("published", None)  # the released size, in words
    arguments.expect("inp_channels", 3)
    arguments.expect("out_channels", 3)
    arguments.expect("bias", False)
    arguments.expect("dual_pixel_task", False)
    arguments.expect("LayerNorm_type", "WithBias", "BiasFree")
    arguments.expect("ffn_expansion_factor", 2.66)
    arguments.take("num_refinement_blocks")
    offset_clamp = arguments.optional("offset_clamp", (-1, 1))
    network = MBTaylorFormer(
        dims=arguments.take("dim"),
        depths=arguments.take("num_blocks"),
        heads=arguments.take("heads"),
        paths=arguments.take("num_path"),
        qk_norm=arguments.optional("qk_norm", 1),
        offset_clamp=(offset_clamp[0], offset_clamp[1]) if offset_clamp else None,
    )
    # A level adds its input, which the published stage of paths leaves to the network.
    taps = {
        name: Tap(f"{name}.aggregate" if isinstance(module, Level) else name)
        for name, module in network.named_children()
    }
    taps["output"] = Tap("to_image")
    return Built(network, map_mb_taylorformer, (fixture.image(),), taps)
