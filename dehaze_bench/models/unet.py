"""The controlled experiment: one U-shaped network in which only the token mixer and the scan differ.

The skeleton follows the DehazeFormer line (Song et al., arXiv 2204.03883, section 3): five stages at three scales,
selective-kernel fusion of the skips, and soft reconstruction J = K * I - B + I. It is taken because these parts
carry no sequence model of their own and because most recent dehazers share them; what replaces its attention is
the scanned layer with any mixer. Deviations: LayerNorm instead of RescaleNorm, a plain MLP, an optional patch
stem, so that no other part of the block sees neighbours or the whole image.

Shape legend: B batch, H and W grid of a stage, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn import mixers
from dehaze_bench.nn.conv_ffn import ConvFFN
from dehaze_bench.nn.fusion import SelectiveKernelFusion, Up, reconstruct
from dehaze_bench.nn.mixers import Alternating, Mixer
from dehaze_bench.nn.scanned import RouteStates, ScannedLayer
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import cross

STAGE_RATIOS = (1, 2, 4, 2, 1)
FFNS = ("mlp", "conv")


class UNet(nn.Module):
    """U-shaped restorer of images (B, 3, H, W) in [0, 1]; the output is not clamped.

    `mixer(dim)` makes a token mixer for `dim` channels. `scan=None` is the native one, `cross`. `width` is the
    number of channels of the first stage; the others have 2, 4, 2, 1 times as many, rounded to even numbers, so
    that a width with a fraction can meet a parameter budget. `depths` counts blocks per stage. `patch` is the side
    of the square of pixels that becomes one token of the first stage; K and B are made per token and interpolated,
    since transmission is smooth where the image is not. `ffn="conv"` puts a depthwise convolution into the MLP and
    `extra_norm` a norm behind mixer and MLP (modifications of the block in A Survey of Mamba, arXiv 2408.01129, section
    4.1). H and W must be multiples of `multiple`.

    `connect_states` hands memory on (section 4.3 there): in every stage, the state in which a route ends in one block
    is the one from which the same route starts in the next. It adds no parameters, and a stage with a single block is
    as without it. Raises `UsageError` where it cannot be done: a mixer without a state, blocks with different mixers
    or routes, no stage with two blocks.
    """

    trainable = True

    def __init__(
        self,
        mixer: Callable[[int], Mixer],
        scan: Scan | None = None,
        width: float = 24.0,
        depths: Sequence[int] = (1, 1, 2, 1, 1),
        patch: int = 2,
        ffn_ratio: float = 2.0,
        ffn: str = "mlp",
        extra_norm: bool = False,
        connect_states: bool = False,
    ) -> None:
        super().__init__()
        if ffn not in FFNS:
            raise UsageError(f"The U-Net has no ffn '{ffn}'. {nearest(ffn, FFNS)}")
        if len(depths) != len(STAGE_RATIOS) or min(depths) < 0:
            raise UsageError(f"The U-Net has five stages: depths={list(depths)} must be five counts from 0 up")
        for name, value, fits, need in (
            ("patch", patch, patch >= 1, "at least 1"),
            ("width", width, width >= 2, "at least 2"),
            ("ffn_ratio", ffn_ratio, ffn_ratio > 0, "positive"),
        ):
            if not fits:
                raise UsageError(f"The U-Net cannot have {name}={value}: it must be {need}")
        scan = Scan("cross", cross, "sum") if scan is None else scan
        dims = [max(2, 2 * round(width * ratio / 2)) for ratio in STAGE_RATIOS]
        self.patch = patch
        self.multiple = 4 * patch
        self.embed = nn.Conv2d(3 * patch**2, dims[0], 3, padding=1, padding_mode="reflect")
        numbers = iter(range(sum(depths)))

        def block(dim: int, number: int) -> Block:
            # Where scans or mixers alternate, every block has its own.
            make = mixer.for_block(number) if isinstance(mixer, Alternating) else mixer
            return Block(dim, make, scan.for_block(number), ffn_ratio, ffn, extra_norm)

        self.stages = nn.ModuleList(
            nn.Sequential(*(block(dim, next(numbers)) for _ in range(depth)))
            for dim, depth in zip(dims, depths, strict=True)
        )
        if connect_states:
            _check_connected(mixer, scan, self.stages)
        self.connect_states = connect_states
        self.downs = nn.ModuleList(nn.Conv2d(dims[i], dims[i + 1], 2, stride=2) for i in (0, 1))
        self.ups = nn.ModuleList(Up(dims[i], dims[i + 1]) for i in (2, 3))
        self.fusions = nn.ModuleList(SelectiveKernelFusion(dims[i]) for i in (3, 4))
        self.unembed = nn.Conv2d(dims[4], 4, 3, padding=1, padding_mode="reflect")
        # Gain and offset start at zero, so training starts from the hazy input instead of from noise.
        for parameter in self.unembed.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image_BCHW: Tensor, num_frames: int | None = None) -> Tensor:
        """Restore images; with `num_frames` so many in a row are a clip, whose tokens are one grid (frames, H, W)."""
        x = self.embed(F.pixel_unshuffle(2 * image_BCHW - 1, self.patch))
        skips = []
        for stage, down in zip(self.stages[:2], self.downs, strict=True):
            x = self._run_stage(stage, x, num_frames)
            skips.append(x)
            x = down(x)
        x = self._run_stage(self.stages[2], x, num_frames)
        for stage, up, fusion in zip(self.stages[3:], self.ups, self.fusions, strict=True):
            x = self._run_stage(stage, fusion(up(x), skips.pop()), num_frames)
        maps = self.unembed(x)
        if self.patch > 1:
            maps = F.interpolate(maps, scale_factor=self.patch, mode="bilinear")
        return reconstruct(maps, image_BCHW)

    def _run_stage(self, stage: nn.Module, x_BCHW: Tensor, num_frames: int | None = None) -> Tensor:
        """Run the blocks of a stage on channels-last tokens, (B / T, T, H, W, C) for clips of T frames."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        if num_frames is not None:
            x_BHWC = x_BHWC.unflatten(0, (-1, num_frames))
        blocks = list(cast(Iterable[Block], stage))
        states: RouteStates | None = None
        for block in blocks:
            if self.connect_states and len(blocks) > 1:  # one block alone has nobody to hand states to
                x_BHWC, states = block.forward_with_states(x_BHWC, states)
            else:
                x_BHWC = block(x_BHWC)
        return (x_BHWC if num_frames is None else x_BHWC.flatten(0, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Pre-norm residual block on (B, H, W, C): scanned mixer, then a two-layer MLP or a convolutional FFN.

    On (B, T, H, W, C) the routes go through all frames; a convolutional FFN sees one frame at a time.
    """

    def __init__(
        self,
        dim: int,
        mixer: Callable[[int], Mixer],
        scan: Scan,
        ffn_ratio: float,
        ffn: str = "mlp",
        extra_norm: bool = False,
    ) -> None:
        super().__init__()
        hidden = max(1, int(dim * ffn_ratio))
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = ScannedLayer(dim, mixer, scan)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = ConvFFN(dim, hidden) if ffn == "conv" else _make_mlp(dim, hidden)
        self.after1, self.after2 = (nn.LayerNorm(dim) if extra_norm else nn.Identity() for _ in range(2))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        return self._join(x_BHWC, self.mixer(self.norm1(x_BHWC)))

    def forward_with_states(self, x_BHWC: Tensor, states: RouteStates | None) -> tuple[Tensor, RouteStates]:
        """Run the block with routes that start from `states`; also return those at their ends."""
        mixed_BHWC, states = self.mixer.forward_with_states(self.norm1(x_BHWC), states)
        return self._join(x_BHWC, mixed_BHWC), states

    def _join(self, x_BHWC: Tensor, mixed_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.after1(mixed_BHWC)
        return x_BHWC + self.after2(self.ffn(self.norm2(x_BHWC).flatten(0, -4)).reshape(x_BHWC.shape))


def _make_mlp(dim: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


def _check_connected(mixer: Callable[[int], Mixer], scan: Scan, stages: nn.ModuleList) -> None:
    """Raise `UsageError` where no state can be handed from block to block."""
    where = "The U-Net cannot have connect_states=true"
    depths = [len(cast(nn.Sequential, stage)) for stage in stages]
    if max(depths) < 2:
        raise UsageError(f"{where} with depths={depths}: no stage has a second block to hand a state to")
    if isinstance(mixer, Alternating):
        raise UsageError(f"{where} with mixers that alternate: a state fits a block with an equal mixer only")
    if scan.mode == "alternate":
        raise UsageError(
            f"{where} with scan '{scan.name}', whose routes alternate: the next block walks another route. Use a scan "
            "of mode parallel"
        )
    made = next(module for module in stages.modules() if isinstance(module, Mixer))
    if not made.stateful:
        able = [name for name in mixers.__all__ if getattr(getattr(mixers, name), "stateful", False)]
        raise UsageError(
            f"{where} with the mixer {type(made).__name__}, which keeps no state between sequences. Of the mixers "
            f"these do: {', '.join(able)}"
        )
