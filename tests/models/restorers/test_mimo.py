"""SFNet, FSNet, OKNet, IRNeXt, ConvIR, CasDyF-Net: published sizes, three scales, gradients, windows, named faults."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers import convir, irnext
from dehaze_bench.models.restorers.casdyfnet import NEIGHBOURS, CascadedFilters, CasDyFNet, NeighbourFusion
from dehaze_bench.models.restorers.convir import ConvIR
from dehaze_bench.models.restorers.fsnet import FSNet
from dehaze_bench.models.restorers.irnext import IRNeXt
from dehaze_bench.models.restorers.oknet import OKNet, OmniKernel
from dehaze_bench.models.restorers.sfnet import SFNet
from dehaze_bench.nn.frequency_selection import LocalMean
from dehaze_bench.nn.mimo import ThreeScales
from tests.models.backbones.building import count
from tests.models.restorers.building import restorer

# Preset, parameters of the published code, MACs at 256 x 256 in G, padding of the published evaluation.
PUBLISHED = [
    ("sfnet", 13_271_209, 121.08, 8),
    ("fsnet", 13_275_689, 106.86, 8),
    ("oknet", 4_722_857, 36.32, 4),
    ("irnext", 5_455_241, 38.72, 32),
    ("convir_s", 5_530_505, 38.72, 32),
    ("convir_b", 8_630_665, 67.71, 32),
    ("convir_l", 14_830_985, 125.69, 32),
    ("casdyfnet", 6_228_179, 37.10, 8),
]
SMALL: dict[str, Callable[[], ThreeScales]] = {
    "sfnet": lambda: SFNet(2, 16),
    "fsnet": lambda: FSNet(4, 16),
    "oknet": lambda: OKNet(1, 8, 5),
    "irnext": lambda: IRNeXt(2, 8),
    "convir": lambda: ConvIR(2, 8),
    "casdyfnet": lambda: CasDyFNet(8),
}
small = pytest.mark.parametrize("name", SMALL)


def make(name: str) -> ThreeScales:
    """Return a small network in which nothing hides behind an initial zero."""
    torch.manual_seed(0)
    network = SMALL[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize(("preset", "parameters", "gmacs", "multiple"), PUBLISHED)
def test_presets_have_the_published_sizes(preset: str, parameters: int, gmacs: float, multiple: int) -> None:
    network = restorer(preset)
    assert count(network) == parameters
    assert network.multiple == multiple
    assert count_macs(network, rule="dense") / 1e9 == pytest.approx(gmacs, rel=5e-3)


@small
@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_one_image_in_evaluation_and_three_in_training(name: str, size: tuple[int, int]) -> None:
    network, hazy = make(name), torch.rand(2, 3, *size)
    shapes = [tuple(out.shape) for out in network.train()(hazy)]
    assert shapes == [(2, 3, size[0] // step, size[1] // step) for step in (1, 2, 4)]
    assert network.eval()(hazy[:1]).shape == (1, 3, *size)


@small
def test_each_output_is_added_to_the_input_of_its_size(name: str) -> None:
    network, hazy = make(name), torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        for last in (network.feat_extract[5], *network.convs_out):
            assert isinstance(last.conv, nn.Conv2d) and last.conv.bias is not None
            last.conv.weight.zero_()
            last.conv.bias.fill_(0.25)
        outputs = network.train()(hazy)
    for out, step in zip(outputs, (1, 2, 4), strict=True):
        torch.testing.assert_close(out, hazy[..., ::step, ::step] + 0.25)


def test_smaller_outputs_come_from_the_same_pass() -> None:
    network, hazy = make("oknet"), torch.rand(1, 3, 16, 24)  # without batch statistics, both modes give one image
    torch.testing.assert_close(network.train()(hazy)[0], network.eval()(hazy))


@small
def test_every_parameter_that_a_layer_reads_learns(name: str) -> None:
    network = make(name)
    outputs: tuple[Tensor, ...] = network.train()(torch.rand(2, 3, 64, 32))
    loss = torch.stack([(out * torch.randn_like(out)).sum() for out in outputs]).sum()
    loss.backward()
    idle = {"sfnet": ("lamb_l", "lamb_h"), "fsnet": ("lamb_l", "lamb_h"), "oknet": ("fgm.conv.weight", "fgm.conv.bias")}
    # Constants in front of a norm over the image, or of a softmax, cancel.
    cancelled = ("scm1.3.conv.bias", "scm2.3.conv.bias", "conv1d.bias")
    for path, parameter in network.named_parameters():
        if path.endswith(idle.get(name, ())):
            assert parameter.grad is None, path
            continue
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), path
        assert path.endswith(cancelled) or parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", ["sfnet", "fsnet", "irnext", "convir", "casdyfnet"])
def test_one_image_cannot_train_filters_that_are_normalised_over_the_batch(name: str) -> None:
    with pytest.raises(UsageError, match="at least two images"):
        make(name).train()(torch.rand(1, 3, 32, 32))


def test_images_below_the_mirrored_border_of_the_published_code_are_restored() -> None:
    for name in ("convir", "irnext"):
        restored = make(name).eval()(torch.rand(1, 3, 32, 32))
        assert restored.shape == (1, 3, 32, 32) and torch.isfinite(restored).all()


@pytest.mark.parametrize("build", [lambda window: SFNet(1, 16, window), lambda window: FSNet(4, 16, window)])
def test_windows_act_in_evaluation_alone(build: Callable[[int | None], ThreeScales]) -> None:
    hazy, found = torch.rand(2, 3, 32, 24, dtype=torch.float64), {}
    for window in (None, 128, 256):
        torch.manual_seed(0)
        network = build(window).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            found[window] = network.eval()(hazy), network.train()(hazy)[0]
    torch.testing.assert_close(found[256][0], found[None][0])
    torch.testing.assert_close(found[128][1], found[None][1])
    assert (found[128][0] - found[None][0]).abs().max() > 1e-4


@pytest.mark.parametrize(("size", "window"), [((9, 14), 128), ((16, 6), 246), ((5, 5), 1), ((8, 12), 300)])
def test_a_local_mean_is_that_of_the_nearest_window_inside(size: tuple[int, int], window: int) -> None:
    mean, x_BCHW = LocalMean(window).eval(), torch.randn(2, 3, *size, dtype=torch.float64)
    spread = mean.spread(mean(x_BCHW), x_BCHW).expand_as(x_BCHW)
    lengths = [min(max(side * window // 256, 1), side) for side in size]
    for row, column in product(range(size[0]), range(size[1])):
        window_BCHW = x_BCHW
        for axis, place, side, length in zip((2, 3), (row, column), size, lengths, strict=True):
            num_windows = side - length + 1
            first = min(max(place - (side - num_windows) // 2, 0), num_windows - 1)
            window_BCHW = window_BCHW.narrow(axis, first, length)
        torch.testing.assert_close(spread[..., row, column], window_BCHW.mean((2, 3)))


def test_the_filters_of_irnext_are_those_of_convir_without_strips() -> None:
    torch.manual_seed(0)
    ours, strips = irnext.block(16, filtered=True).eval(), convir.block(16, True, dilations=(1, 1, 1)).eval()
    state = strips.state_dict()
    for name in state:
        state[name] = torch.zeros_like(state[name]) if "strip_att" in name else torch.randn_like(state[name].float())
        state[name] = state[name].abs() + 0.5 if "running_var" in name else state[name]
    strips.load_state_dict(state)
    ours.load_state_dict({n.replace("square_att.", ""): t for n, t in state.items() if "strip_att" not in n})
    x_BCHW = torch.randn(2, 16, 32, 24)
    torch.testing.assert_close(ours(x_BCHW), strips(x_BCHW))


def test_channel_attention_on_a_spectrum_needs_no_transform() -> None:
    torch.manual_seed(0)
    layer, x_BCHW = OmniKernel(4, 5).eval(), torch.randn(2, 4, 8, 12)
    with torch.no_grad():
        layer.fgm.alpha.zero_()
        for conv in (layer.dw_13, layer.dw_31, layer.dw_33, layer.dw_11):
            conv.weight.zero_()
            assert conv.bias is not None
            conv.bias.zero_()
        y_BCHW = layer.in_conv(x_BCHW)
        spectrum = layer.fac_conv(y_BCHW.mean((2, 3), keepdim=True)) * torch.fft.fft2(y_BCHW)
        attended = torch.fft.ifft2(spectrum).abs()
        attended = layer.conv(attended.mean((2, 3), keepdim=True)) * attended
        torch.testing.assert_close(layer(x_BCHW), layer.out_conv((x_BCHW + attended).relu()))


def test_bands_narrow_by_an_eighth_and_are_fused_with_their_neighbours() -> None:
    network = CascadedFilters(16)
    widths = [block.low_pass_filter.conv.in_channels for block in network.blocks]
    assert widths == [16, 14, 12, 10, 8, 6, 4]
    assert all(before - after == 2 for before, after in pairwise(widths))
    assert len(network.local) == len(NEIGHBOURS) == 8
    assert all(0 < abs(other - own) <= 2 for own, others in enumerate(NEIGHBOURS) for other in others)


def test_fused_bands_are_means_of_what_is_fused() -> None:
    fuse, bands = NeighbourFusion(3), [torch.full((2, 3, 4, 5), value) for value in (2.0, 2.0, 2.0)]
    torch.testing.assert_close(fuse(*bands), bands[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SFNet(num_res=0), "num_res=0"),
        (lambda: SFNet(base=24), "8 groups"),
        (lambda: SFNet(window=0), "window=0"),
        (lambda: FSNet(num_res=3), "4 or more"),
        (lambda: OKNet(kernel=62), "odd number"),
        (lambda: OKNet(base=7), "even number"),
        (lambda: IRNeXt(base=12), "8 groups"),
        (lambda: ConvIR(dilations=(7, 9)), r"dilations=\[7, 9\]"),
        (lambda: CasDyFNet(base=20), "multiple of 8"),
    ],
)
def test_faults_are_named(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()
