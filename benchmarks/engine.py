"""The training loop: its cost beside a bare loop and the structure of a published trainer, checkpoints, start-up.

    python benchmarks/engine.py [--quick] [--json FILE] [OVERRIDE ...]

Overrides are those of `dehaze-bench train`; without any a small convolutional U-Net on crops of 64 is trained. Four
tables, each of things that take turns in one process, so that the machine's moods fall on all of them:

loop        `engine.loop` against the fewest lines that train: forward, loss, backward, clip, step, on the same batches
            in memory; on the clock, and in CPU time, which other work on the machine moves less
trainer     the same with its data, against what DehazeFormer's trainer does (train.py and datasets/loader.py of
            IDKiro/DehazeFormer, written anew from their structure): whole pictures decoded to float32 in [-1, 1], the
            crop taken afterwards, a shuffled DataLoader whose workers start anew with each epoch, `loss.item()`
            before the backward pass, no clipping. Both decode with Pillow, both have one worker
checkpoint  the stall of one save, as seconds, as steps and per MB, against a plain `torch.save` of the weights, which
            is all that the published trainer keeps
start       from `dehaze-bench train` to the first logged step, against a bare `import torch`
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import describe_machine  # before torch: it sets how threads wait
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.data import FolderCrops, batches
from dehaze_bench.engine import checkpoint, loop, precision, state
from dehaze_bench.engine.distributed import World
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.track.jsonl import JsonlSink
from dehaze_bench.track.sink import RunInfo

CPU = torch.device("cpu")
DEFAULTS = ["model/mixer=conv", "scan=raster", "model.width=16", "train.batch=4", "train.crop=64", "track=off"]
SIZE = (460, 620)
PAIRS = 32


@dataclass
class InMemory:
    """A batch as the loop wants it, made before the clock runs."""

    step: int
    names: list[str]
    hazy_BCHW: Tensor
    clear_BCHW: Tensor
    wait: float = 0.0


class Ours:
    """The project's loop on a network of its own, which goes on from block to block."""

    def __init__(self, cfg: Any, folder: Path) -> None:
        torch.manual_seed(0)
        network = build.model(cfg)
        scaler = precision.scaler(CPU, "fp32")
        self.state = state.TrainState(network, build.optimizer(cfg, network), scaler)
        self.plan = loop.Plan(
            steps=10**9,
            batch=cfg.train.batch,
            accumulate=1,
            clip=cfg.train.clip,
            precision="fp32",
            log_every=cfg.runtime.log_every,
            eval_every=None,
            save_every=10**9,
            schedule=build.schedule(cfg),
            loss=build.loss(cfg),
        )
        self.sink = JsonlSink()
        self.sink.start(RunInfo("00000000", "benchmark", folder))

    def train(self, steps: Iterator[Any]) -> None:
        """Train on all batches of `steps`."""
        never: Callable[..., Any] = lambda *arguments: None  # noqa: E731
        with StopFlag() as stop:
            loop.train(
                self.state, steps, self.plan, World(CPU), stop,
                log=self.sink.log, evaluate=never, save=never, save_best=never,
            )  # fmt: skip


class Bare:
    """The fewest lines that do the same arithmetic."""

    def __init__(self, cfg: Any, clip: float | None) -> None:
        torch.manual_seed(0)
        self.network = build.model(cfg)
        self.optimizer = build.optimizer(cfg, self.network)
        self.clip = clip

    def train(self, steps: Iterator[Any]) -> None:
        """Train on all batches of `steps`."""
        self.network.train()
        for batch in steps:
            self.optimizer.zero_grad()
            loss = (self.network(batch.hazy_BCHW) - batch.clear_BCHW).abs().mean()
            loss.backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
            self.optimizer.step()


class Published:
    """The structure of DehazeFormer's trainer: one call is one epoch."""

    def __init__(self, cfg: Any, folder: Path) -> None:
        torch.manual_seed(0)
        self.network = build.model(cfg)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-4)
        self.scaler = precision.scaler(CPU, "fp32")
        self.loader = DataLoader(
            WholePictures(folder, cfg.train.crop), cfg.train.batch, shuffle=True, num_workers=1, drop_last=True
        )

    def train_epoch(self) -> int:
        """Train once over the pictures and return the number of steps."""
        self.network.train()
        total = 0.0
        for batch in self.loader:
            output = self.network(batch["source"])
            loss = nn.functional.l1_loss(output, batch["target"])
            total += loss.item()
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return len(self.loader)


class WholePictures(Dataset[dict[str, Any]]):
    """Pairs of equal names: both decoded whole and scaled to [-1, 1], then a common window, flip and quarter turns."""

    def __init__(self, folder: Path, crop: int) -> None:
        self.folder, self.crop = folder, crop
        self.names = sorted(os.listdir(folder / "clear"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pictures = [self._read(kind, self.names[index]) for kind in ("hazy", "clear")]
        height, width, _ = pictures[0].shape
        top, left = np.random.randint(height - self.crop + 1), np.random.randint(width - self.crop + 1)  # noqa: NPY002
        flipped, turns = np.random.randint(2), np.random.randint(4)  # noqa: NPY002
        made = []
        for picture in pictures:
            window = picture[top : top + self.crop, left : left + self.crop]
            window = np.rot90(window[:, ::-1] if flipped else window, turns)
            made.append(np.ascontiguousarray(window.transpose(2, 0, 1)))
        return {"source": made[0], "target": made[1], "filename": self.names[index]}

    def _read(self, kind: str, name: str) -> np.ndarray:
        picture = np.asarray(Image.open(self.folder / kind / name).convert("RGB"), np.float32)
        return picture / np.float32(255) * 2 - 1


def write_pairs(folder: Path) -> None:
    """Write pairs of smooth noisy pictures of the size of ITS as PNG files of equal names."""
    rng = np.random.default_rng(0)
    for kind in ("hazy", "clear"):
        (folder / kind).mkdir(parents=True)
    for index in range(PAIRS):
        coarse = rng.uniform(0, 255, (SIZE[0] // 20, SIZE[1] // 20, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC), np.float32)
        clear = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255)
        for kind, picture in (("clear", clear), ("hazy", 0.5 * clear + 110)):
            Image.fromarray(picture.astype(np.uint8)).save(folder / kind / f"{index:03d}.png")


def measure_loop(cfg: Any, folder: Path, blocks: int, steps: int) -> dict[str, Any]:
    """Return medians over blocks of steps in which the two loops take turns, and their ratio."""
    ours, bare = Ours(cfg, folder), Bare(cfg, cfg.train.clip)
    shape = (cfg.train.batch, 3, cfg.train.crop, cfg.train.crop)
    made = [InMemory(i, ["x"] * shape[0], torch.rand(shape), torch.rand(shape)) for i in range(steps)]
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for turn in range(blocks + 1):
        order = [("ours", ours.train), ("bare", bare.train)]
        for name, train in order if turn % 2 else reversed(order):
            started = time.perf_counter(), time.process_time()
            train(iter(made))
            found[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    result: dict[str, Any] = {"steps": steps, "blocks": blocks}
    for index, kind in enumerate(("wall", "cpu")):
        ours_, bare_ = ([block[index] / steps for block in found[name][1:]] for name in ("ours", "bare"))
        result[kind] = {
            "ours_ms": 1e3 * statistics.median(ours_),
            "bare_ms": 1e3 * statistics.median(bare_),
            "ratio": statistics.median(a / b for a, b in zip(ours_, bare_, strict=True)),
        }
    return result


def measure_trainer(cfg: Any, folder: Path, epochs: int) -> dict[str, Any]:
    """Return seconds per step with data, where blocks of one epoch take turns, and their ratio."""
    write_pairs(folder / "pairs")
    ours, published = Ours(cfg, folder), Published(cfg, folder / "pairs")
    crops = FolderCrops("pairs", ".", ["."], str(folder / "pairs/hazy"), str(folder / "pairs/clear"))
    each, ahead = PAIRS // cfg.train.batch, 3
    stream = batches(
        crops, seed=0, start=0, stop=(epochs + 1) * (each + ahead), batch=cfg.train.batch, crop=cfg.train.crop,
        augment=["flip", "rot90"], num_workers=1,
    )  # fmt: skip
    found: dict[str, list[float]] = {"ours": [], "published": []}
    for _ in range(epochs + 1):
        for _ in range(ahead):  # what the worker had made while the other was measured
            next(stream)
        started = time.perf_counter()
        ours.train(next(stream) for _ in range(each))
        found["ours"].append((time.perf_counter() - started) / each)
        started = time.perf_counter()
        steps = published.train_epoch()
        found["published"].append((time.perf_counter() - started) / steps)
    stream.close()  # type: ignore[attr-defined]
    medians = {f"{name}_ms": 1e3 * statistics.median(times[1:]) for name, times in found.items()}
    pairs = zip(found["ours"][1:], found["published"][1:], strict=True)
    return {"epochs": epochs, "steps": each, **medians, "ratio": statistics.median(a / b for a, b in pairs)}


def measure_checkpoint(cfg: Any, folder: Path, saves: int, step_ms: float) -> dict[str, Any]:
    """Return the stall of one save, with moments of the optimiser, and that of a plain file of weights."""
    ours = Ours(cfg, folder)
    shape = (cfg.train.batch, 3, cfg.train.crop, cfg.train.crop)
    ours.train(iter([InMemory(0, ["x"] * shape[0], torch.rand(shape), torch.rand(shape))]))
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(saves + 1):
        started = time.perf_counter()
        path = checkpoint.save(folder, "00000000", ours.state.content())
        found["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        torch.save({"state_dict": ours.state.model.state_dict()}, folder / "plain.pth")
        found["plain"].append(time.perf_counter() - started)
    stall, plain = (1e3 * statistics.median(found[name][1:]) for name in ("ours", "plain"))
    megabytes, weights = path.stat().st_size / 1e6, (folder / "plain.pth").stat().st_size / 1e6
    return {
        "MB": megabytes, "stall_ms": stall, "steps": stall / step_ms, "ms_per_MB": stall / megabytes,
        "plain_MB": weights, "plain_ms": plain, "plain_ms_per_MB": plain / weights,
    }  # fmt: skip


def measure_start(overrides: list[str], folder: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds from the command to the first line of metrics.jsonl, and those of `import torch`."""
    found: dict[str, list[float]] = {"train": [], "torch": []}
    for turn in range(repeats):
        runs = folder / f"start{turn}"
        more = ["train.steps=2", "train.val_images=0", "runtime.log_every=1", "runtime.workers=0", f"paths.runs={runs}"]
        command = [sys.executable, "-m", "dehaze_bench", "train", *overrides, *more]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not _has_line(runs):
                time.sleep(0.005)
            found["train"].append(time.perf_counter() - started)
            process.wait()
            if process.returncode:
                raise SystemExit(f"{' '.join(command)} ends with {process.returncode}")
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        found["torch"].append(time.perf_counter() - started)
    seconds = {f"{name}_s": statistics.median(times) for name, times in found.items()}
    return {"repeats": repeats, **seconds, "ratio": seconds["train_s"] / seconds["torch_s"]}


def _has_line(runs: Path) -> bool:
    return any(path.stat().st_size for path in runs.glob("*/metrics.jsonl"))


def compare(title: str, row: dict[str, Any], one: str, other: str) -> None:
    """Print two figures and their ratio."""
    figures = "   ".join(f"{key.replace('_', ', ')} {row[key]:9.2f}" for key in (one, other))
    print(f"{title:12} {figures}   ratio {row['ratio']:.3f}", flush=True)


def main() -> None:
    """Measure, print the tables and write the JSON file where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of `dehaze-bench train`; replaces the small network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a minute, rougher")
    parser.add_argument("--json", type=Path, help="write machine and figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = options.overrides or DEFAULTS
    cfg = compose_run(overrides).cfg
    blocks, steps, epochs, saves, repeats = (5, 10, 3, 5, 2) if options.quick else (31, 20, 15, 21, 7)
    result: dict[str, Any] = {"machine": describe_machine(CPU), "overrides": overrides}
    print(json.dumps(result))
    with tempfile.TemporaryDirectory(prefix="engine-") as place:
        folder = Path(place)
        result["loop"] = found = measure_loop(cfg, folder, blocks, steps)
        for kind in ("wall", "cpu"):
            compare(f"loop, {kind}", found[kind], "ours_ms", "bare_ms")
        result["trainer"] = measure_trainer(cfg, folder, epochs)
        compare("trainer", result["trainer"], "ours_ms", "published_ms")
        result["checkpoint"] = row = measure_checkpoint(cfg, folder, saves, found["wall"]["ours_ms"])
        print(f"checkpoint   {row['MB']:.2f} MB: {row['stall_ms']:.1f} ms = {row['steps']:.2f} steps", end="")
        print(
            f", {row['ms_per_MB']:.1f} ms per MB; plain torch.save of the weights {row['plain_ms_per_MB']:.1f} per MB"
        )
        result["start"] = measure_start(overrides, folder, repeats)
        compare("start", result["start"], "train_s", "torch_s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
