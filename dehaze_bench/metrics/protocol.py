"""A protocol: which convention stands behind each metric column of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.metrics import no_reference as alone
from dehaze_bench.metrics.conventions import CONVENTIONS, Convention, check_pair
from dehaze_bench.metrics.crop import CROPS, cut
from dehaze_bench.metrics.reading import Pair, Reading


@dataclass(frozen=True)
class Protocol:
    """How numbers are measured, from crop to average: one per line of published work, in conf/protocol.

    `metrics` maps a column (psnr, ssim, ciede2000) to the name of its convention. `crop` names a crop of hazy
    image and target *before* the network. `used_by` lists the repositories that measure like this. `no_reference` names
    scores of the restored image alone, which pyiqa makes, for test sets without truth.
    Raises UsageError for an unknown convention or crop, or such a score without pyiqa.
    """

    name: str
    metrics: Mapping[str, str]
    crop: str | None = None
    used_by: Sequence[str] = ()
    note: str = ""
    no_reference: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UsageError(f"protocol '{self.name}' has no metrics: add one, such as psnr: psnr_rgb_clamp")
        for column, convention in self.metrics.items():
            if convention not in CONVENTIONS:
                hint = nearest(convention, CONVENTIONS, limit=len(CONVENTIONS))
                raise UsageError(f"protocol '{self.name}': unknown convention '{convention}' for {column}. {hint}")
        if self.crop is not None and self.crop not in CROPS:
            hint = nearest(self.crop, CROPS)
            raise UsageError(f"protocol '{self.name}': unknown crop '{self.crop}'. {hint}")
        alone.check_names(self.name, tuple(self.no_reference))

    @property
    def conventions(self) -> dict[str, Convention]:
        """The convention of each column."""
        return {column: CONVENTIONS[name] for column, name in self.metrics.items()}

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Whether a larger value is better, per column."""
        known = {column: convention.higher_is_better for column, convention in self.conventions.items()}
        return known | {name: alone.is_higher_better(name) for name in self.no_reference}

    def prepare(self, hazy_CHW: Tensor, target_CHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images as the network and the scores get them: cropped where the protocol says so.

        Raises UsageError where they differ in size or the crop leaves nothing.
        """
        check_pair(hazy_CHW, target_CHW)
        hazy, target = cut(hazy_CHW, self.crop), cut(target_CHW, self.crop)
        if target.numel() == 0:
            height, width = target_CHW.shape[-2:]
            raise UsageError(
                f"the crop '{self.crop}' of protocol '{self.name}' leaves nothing of an image of "
                f"{height} x {width} pixels (height x width); use larger images or another protocol"
            )
        return hazy, target

    def measure(self, restored_CHW: Tensor, target_CHW: Tensor) -> dict[str, float]:
        """Return one value per column for RGB images in [0, 1]; the restored image may leave that range.

        Raises UsageError for images of unequal size, or too small for one of the conventions.
        """
        check_pair(restored_CHW, target_CHW)
        height, width = target_CHW.shape[-2:]
        pairs: dict[Reading, Pair] = {}
        values: dict[str, float] = {}
        for column, convention in self.conventions.items():
            if not convention.fits(height, width):
                raise UsageError(
                    f"an image of {height} x {width} pixels (height x width) is too small for {column} under "
                    f"protocol '{self.name}': {convention.name} needs {convention.smallest_side} pixels "
                    "or more on each side; use larger images or another protocol"
                )
            if convention.reading not in pairs:
                pairs[convention.reading] = convention.reading.read(restored_CHW, target_CHW)
            values[column] = convention.score(pairs[convention.reading])
        return values

    def judge(self, restored_CHW: Tensor) -> dict[str, float]:
        """Return the scores of the restored image alone; empty where the protocol names none."""
        return {name: alone.score(name, restored_CHW) for name in self.no_reference}

    def describe(self) -> str:
        """Return one line for a table footer: crop, colour, clamp, rounding, SSIM variant and averaging."""
        scores: dict[str, list[str]] = {}
        for convention in self.conventions.values():
            reading = convention.reading
            reading = replace(reading, crop=None) if reading.crop == self.crop else reading
            scores.setdefault(reading.describe(), []).append(convention.score.describe())
        parts = [f"{self.crop} crop before the network"] if self.crop else []
        parts += [f"{' and '.join(names)} of {reading}" for reading, names in scores.items()]
        parts += [f"{', '.join(self.no_reference)} of the restored image alone by pyiqa"] if self.no_reference else []
        return f"{self.name}: {'; '.join(parts)}; means of per-image values"
