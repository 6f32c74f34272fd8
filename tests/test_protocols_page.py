"""docs/protocols.md is what `make docs` would write now, and its figures are measured ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dehaze_bench import protocols_page as page
from dehaze_bench.errors import UsageError

DOCS = Path(__file__).resolve().parents[1] / "docs"
SAMPLES = DOCS.parents[1] / "shared" / "samples"


def test_the_page_is_current() -> None:
    made = page.text(page.packaged(), page.read_csv(DOCS / page.DATA))
    assert made == (DOCS / page.PAGE).read_text(encoding="utf-8"), "docs/protocols.md is stale: run `make docs`"


def test_every_protocol_was_measured_and_the_default_comes_first() -> None:
    protocols = [protocol.name for protocol in page.packaged()]
    assert protocols[0] == page.DEFAULT
    assert set(protocols) <= {protocol for _, protocol, _ in page.read_csv(DOCS / page.DATA)}


def test_a_protocol_that_was_not_measured_is_named() -> None:
    values = {key: value for key, value in page.read_csv(DOCS / page.DATA).items() if key[1] != "sfnet"}
    with pytest.raises(UsageError, match=r"protocol sfnet is not in protocols\.csv: measure anew"):
        page.text(page.packaged(), values)


def test_a_network_runs_once_for_each_crop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clear = torch.rand(3, 70, 85, generator=torch.Generator().manual_seed(0))
    sizes: list[tuple[int, ...]] = []

    def restore(hazy_CHW: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(hazy_CHW.shape[-2:]))
        return hazy_CHW + 0.1

    wanted = {"full_rgb", "promptir", "dehamer", "sfhformer", "maxim", "griddehazenet"}
    protocols = [protocol for protocol in page.packaged() if protocol.name in wanted]
    values = page.measure(protocols, [page.Sample("x", clear * 0.5, clear, restore)])
    assert sorted(sizes) == [(64, 80)] * 2 + [(64, 80), (70, 85)] or sorted(set(sizes)) == [(64, 80), (70, 85)]
    assert len(sizes) == len({protocol.crop for protocol in protocols})
    assert values["x", "maxim", "psnr"] < values["x", "full_rgb", "psnr"], "truncation costs"
    assert ("x", "maxim", "ssim") not in values
    (tmp_path / page.DATA).write_text(page.to_csv(values))
    assert page.read_csv(tmp_path / page.DATA) == pytest.approx(values, abs=1e-6)
    assert page.main([]) == 2 and page.main([str(tmp_path), "--samples", str(tmp_path)]) == 2
    assert "is not there" in capsys.readouterr().err


@pytest.mark.slow
def test_the_figures_are_what_is_measured_now() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("needs ../shared/samples, which may not be shipped")
    found = page.measure(page.packaged(), page.read_samples(SAMPLES))
    kept = page.read_csv(DOCS / page.DATA)
    assert found.keys() == kept.keys()
    for key, value in found.items():
        assert value == pytest.approx(kept[key], abs=2e-3 if key[2] == "psnr" else 2e-5), key
