"""What cannot be right is refused in one sentence, before the run directory exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench import run
from dehaze_bench.errors import UsageError
from tests import tiny


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.lr=-1", "optimizer"),
        ("optimizer.betas=[2,3]", "optimizer"),
        ("schedule.floor=3", "schedule"),
        ("schedule.warmup=-1", "schedule"),
        ("loss=l1_ssim loss.window=4", "window=4"),
        ("loss=l1_fft loss.weight=-1", "weight=-1"),
        ("model/mixer=mamba model.mixer.d_state=0", "d_state=0"),
        ("model/mixer=mamba model.mixer.expand=0", "expand=0"),
        ("model.ffn_ratio=-1", "ffn_ratio"),
        ("scan.merge=concatt", "'concat'"),
        ("scan=random scan.order.routes=0", "routes"),
        ("track.mode=foo", "track.mode"),
        ("track.max_images=-1", "track.max_images"),
        ("weights=file.pth", "weights"),
        ("train.crop=30", "train.crop=30"),
        ("train.val_images=10000", "val_images"),
    ],
)
def test_refused_before_anything_is_written(override: str, named: str, tmp_path: Path) -> None:
    more = override.split()
    network = [text for text in tiny.NETWORK if text.split("=")[0] not in {word.split("=")[0] for word in more}]
    composed = tiny.compose_run(tiny.overrides(tmp_path, *network, *tiny.TRAINING[:-3], "train.crop=32", *more))
    with pytest.raises(UsageError, match=named):
        run.train(composed)
    assert not (tmp_path / "runs").exists()
