"""Requests that cannot be right: each gives one message without a traceback, its exit code, and what to do.

`DEHAZE_BAD_INPUTS=FILE pytest tests/test_bad_inputs.py` writes what was said as a table in markdown to FILE.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dehaze_bench import cli
from dehaze_bench.models.restorers.aodnet import AODNet
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "model/mixer=conv scan=raster model.width=4 model.depths=[1,0,1,0,0] model.patch=4 train.crop=32 train.batch=2 "
    "dataset.canvas=[64,64] track=off"
)
PAIRS = "testset=pairs testset.hazy=pairs/hazy testset.clear=pairs/clear"


@dataclass(frozen=True)
class Case:
    """A command line, the words that its message must hold, the exit code, and texts of files that it meets."""

    line: str
    words: tuple[str, ...]
    code: int = 2
    files: dict[str, str] = field(default_factory=dict)


def case(line: str, *words: str, code: int = 2, **files: str) -> Case:
    return Case(line, words, code, {name.replace("__", "/").replace("_yaml", ".yaml"): t for name, t in files.items()})


CASES = [
    # Names that do not exist, with the nearest that do.
    case("trian model=unet", "'trian'", "Did you mean 'train'"),
    case("help sweeep", "'sweeep'", "'sweep'"),
    case("train --dry-run", "'--dry-run'", "train"),
    case("train modle=unet", "'modle'", "'model'"),
    case("train model/mixr=conv", "'model/mixr'", "'model/mixer'"),
    case("train model=dehazeformr_b", "'dehazeformr_b'", "'dehazeformer_b'", "dehaze-bench ls model"),
    case("train model/mixer=unet", "'unet'", "a choice of model"),
    case("train scan=hilbrt", "'hilbrt'", "'hilbert'"),
    case("train dataset=itss", "'itss'", "'its'"),
    case("train testset=sots_indor", "'sots_indor'", "'sots_indoor'"),
    case("train protocol=full_rbg", "'full_rbg'", "'full_rgb'"),
    case("train recipe=dehazeformer_b", "'dehazeformer_b'", "dehazeformer_b_its"),
    case("train ++train.stepps=5", "'train.stepps'", "'steps'"),
    case("train ++model.widht=8", "'model.widht'", "'width'"),
    case("train +optimizer.learning_rate=1", "'optimizer.learning_rate'", " lr,"),
    case("ls modles", "'modles'", "'models'"),
    case("sweep scan_direction", "'scan_direction'", "'scan_directions'"),
    case("table demo --format exel", "'exel'", "md"),
    case("data verfy x --root .", "'verfy'", "'verify'"),
    # Values of the wrong kind or out of range.
    case("train train.steps=many", "train.steps=many", "whole number"),
    case("train train.steps=", "train.steps=", "whole number"),
    case("train train.steps=1e3", "train.steps=1e3", "whole number"),
    case("train train.ema=yes", "train.ema", "number or null"),
    case("train model.width=wide", "model.width=wide", "number"),
    case("train model.depths=[1,2]", "depths"),
    case("train optimizer.lr=-1", "'optimizer'", "Invalid learning rate: -1"),
    case("train train.batch=-4", "train.batch=-4", "least is 1"),
    case("train train.batch=0", "train.batch=0", "least is 1"),
    case("train train.steps=-1", "train.steps=-1", "least is 1"),
    case("train train.batch=8 train.accumulate=3", "train.accumulate=3", "Use a divisor of 8"),
    case("train seed=-1", "seed=-1", "from 0"),
    case("train seed=99999999999999999999", "seed", "99999999999999999999"),
    case("train seed=1.5", "seed=1.5", "whole number"),
    case("train train.ema=1", "train.ema=1", "between 0 and 1"),
    case("train runtime.precision=half", "runtime.precision=half", "fp16"),
    case("train runtime.device=gpu", "runtime.device=gpu", "cuda:N"),
    case("train runtime.timeout=-1", "runtime.timeout=-1", "minutes"),
    case("train model.match.params=huge", "model.match.params=huge", "1.5M"),
    # Things that do not go together.
    case("train model=aodnet scan=hilbert", "AODNet", "takes no scan", "Leave scan out"),
    case("train model.patch=3 train.crop=32", "crop", "multiple"),
    case("train train.crop=100", "train.crop=100", "use 96 or 104"),
    case("train model=swin_t", "'swin_t'", "model/backbone"),
    case("train model=dehazeformer_t train.crop=20", "20x20", "larger crop"),
    case("train scan=spatial_first", "spatial_first", "choose a scan over the plane"),
    case("train train.select=best@val train.eval_every=5", "train.val_images"),
    case("train train.select=best@test", "train.eval_every"),
    case("train weights=x.pth", "weights", "eval"),
    case("train runtime.timeout=5 runtime.isolate=false", "runtime.timeout", "runtime.isolate"),
    case("train seed=0,1", "several values", "train -m"),
    case("train -m weights=x.pth", "weights", "eval"),
    case("eval run=abcdef01 model=unet", "fixed by run=abcdef01"),
    case("train model.match.params=1M model.match.macs=1G", "model.match", "not both"),
    case("show scan=cross grid=8by8", "16x16"),
    # Missing values and files.
    case("sweep", "needs an experiment"),
    case("table demo --format", "--format needs a value"),
    case("train testset=pairs", "testset.", "give one"),
    case("eval", "needs weights", "run=ID"),
    case("eval run=abcdef01", "abcdef01", "under runs"),
    case("eval run=", "run="),
    case("restore run=abcdef01 in out", "abcdef01"),
    case("restore model=dcp nowhere out", "nowhere"),
    case("restore model=dcp", "source", "target"),
    case("eval model=aodnet weights=nowhere.pth", "nowhere.pth", "not there"),
    case("train dataset=its paths.data=nowhere", "nowhere", "paths.data"),
    case("train dataset=its paths.data=empty", "empty", "paths.data"),
    case("train testset=pairs testset.hazy=empty testset.clear=empty", "empty"),
    case("data info --root nowhere", "nowhere"),
    case("table nothing.yaml", "nothing.yaml"),
    # Files that are broken or not what they are taken for.
    case(f"eval model=aodnet weights=text.pth {PAIRS}", "text.pth", "weights file"),
    case(f"eval model=aodnet weights=torn.safetensors {PAIRS}", "torn.safetensors", "fetch it again"),
    case(f"eval model=aodnet weights=torn.pth {PAIRS}", "torn.pth", "fetch it again"),
    case(f"eval model=aodnet weights=foreign.safetensors {PAIRS}", "foreign.safetensors", "does not fit AODNet"),
    case(f"eval model=gcanet weights=aodnet.pth {PAIRS}", "aodnet.pth"),
    case("train testset=pairs testset.hazy=odd/hazy testset.clear=odd/clear", "odd"),
    case("train schedule=mine", "conf/schedule/mine.yaml", conf__schedule__mine_yaml="_target_: [unclosed\n"),
    case("train schedule=mine", "schedule", "is no config", conf__schedule__mine_yaml="- a\n- list\n"),
    case("train schedule=mine", "DEHAZE_TARGETS=os", conf__schedule__mine_yaml="_target_: os.getcwd\n"),
    case("train recipe=mine", "lrr", conf__recipe__mine_yaml="# @package _global_\noptimizer: {lrr: 1}\n"),
    case("sweep mine.yaml", "mine.yaml", mine_yaml="name: [unclosed\n"),
    case("sweep mine.yaml", "mine.yaml", "rows", mine_yaml="name: mine\ncolumns: [psnr]\n"),
    case("sweep mine.yaml", "mine.yaml", "'rows'", mine_yaml="name: mine\nrowss: []\ncolumns: [psnr]\n"),
    case(
        "sweep mine.yaml",
        "row 'a'",
        "'hilbert'",
        mine_yaml="name: mine\ncolumns: [psnr]\nrows: [{label: a, overrides: [scan=hilbrt]}]\n",
    ),
    case(
        "sweep mine.yaml",
        "psnrr",
        "'psnr'",
        mine_yaml="name: mine\ncolumns: [psnrr]\nrows: [{label: a, overrides: [model=identity]}]\n",
    ),
    # What the machine does not have or allow.
    case(f"train {SMALL} {PAIRS} runtime.device=cuda", "runtime.device=cuda", "sees no GPU", "runtime.device=cpu"),
    case(f"train {SMALL} {PAIRS} paths.runs=/proc/nowhere", "/proc/nowhere", "paths.runs=DIR"),
    case(f"train {SMALL} {PAIRS} paths.runs=text.pth/runs", "text.pth/runs", "paths.runs=DIR"),
    case("table demo --out /proc/nowhere/table.md", "/proc/nowhere"),
    case("show scan=cross out=/proc/nowhere/scan.png", "/proc/nowhere/scan.png", "cannot be written"),
    # Launchers.
    case("sweep demo hydra/launcher=slrum --dry-run", "'slrum'", "'slurm'"),
    case("sweep demo hydra/launcher=local hydra.launcher.timeout_mn=5", "timeout_mn", "'timeout_min'"),
    case("train -m seed=0,1 hydra/launcher=jobblib", "'jobblib'", "'joblib'"),
    case("train -m seed=0,1 hydra/launcher=local hydra.launcher.timeout=5", "hydra.launcher.timeout'", "'timeout_min'"),
    case("train seed=0 hydra/launcher=joblib", "hydra/launcher=joblib", "train -m"),
    case("sweep demo rerun=everything", "rerun=everything", "rerun=failed"),
    # Odd characters.
    case("train 'model=un\net'", "model"),
    case("train testset=pairs testset.hazy=pairs/hazy testset.clear=pairs/clear testset.name=../x", "../x", "slashes"),
    case("train paths.runs=", "paths.runs", "empty"),
    case("train model=../../etc/passwd", "'../../etc/passwd'"),
    case("eval run=../../etc", "../../etc"),
    case("train model=<b>unet</b>", "<b>unet</b>"),
]  # fmt: skip
TABLE: list[tuple[str, int, str]] = []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    tiny.write_pairs(folder / "pairs")
    tiny.write_pairs(folder / "odd")
    (folder / "odd" / "clear" / "1.png").unlink()
    (folder / "empty").mkdir()
    (folder / "text.pth").write_text("no weights at all")
    names = {name.replace("conv", "e_conv"): tensor for name, tensor in AODNet().state_dict().items()}
    torch.save(names, folder / "aodnet.pth")
    (folder / "torn.pth").write_bytes((folder / "aodnet.pth").read_bytes()[:2000])
    save_file({"a": torch.zeros(3)}, folder / "foreign.safetensors")
    (folder / "torn.safetensors").write_bytes((folder / "foreign.safetensors").read_bytes()[:-4])
    return folder


@pytest.fixture(scope="module", autouse=True)
def written() -> Iterator[None]:
    yield
    target = os.environ.get("DEHAZE_BAD_INPUTS")
    if target:
        lines = ["| command | exit | what is said |", "|---|---|---|"]
        lines += [
            f"| `{line}` | {code} | {' '.join(said.split())} |".replace("|`", "\\|`") for line, code, said in TABLE
        ]
        Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("wrong", CASES, ids=lambda wrong: wrong.line[:60])
def test_one_message_without_a_traceback(
    wrong: Case, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(prepared, here)
    for name, text in wrong.files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(here)
    before = sorted(here.rglob("*"))
    code = cli.run(shlex.split(wrong.line))
    said = capsys.readouterr().err.strip()
    TABLE.append((wrong.line, code, said.removeprefix("dehaze-bench: ")))
    assert code == wrong.code, said
    assert said.splitlines()[-1].startswith("dehaze-bench: ") and "Traceback" not in said
    assert not [word for word in wrong.words if word not in said], said
    assert len(said) < 600
    assert sorted(here.rglob("*")) == before, "something was written"
