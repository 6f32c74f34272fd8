"""Crops per second from a set laid out as ITS is: PNG files decoded, a packed copy, and LMDB where it is installed.

Two tables. Reading is one process that draws random crops in 8-bit levels: CPU microseconds per crop of a pair, so that
other work on the machine counts little. Loading is `data.batches` with 0, 1 and 2 workers, up to the float32 batch:
crops per second of CPU time, all threads and processes together, and per second on the clock, which other work does
lower. LMDB is used as BasicSR does: the bytes of PNG files as values.

The memory is that of a fresh process that reads random crops: anonymous pages are its own, mapped ones belong to the
system's cache, which takes them back when it needs to. What a crop touches is the growth of the latter. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import describe_machine
from PIL import Image

from dehaze_bench.data import FolderCrops, Sample, TrainingSet, batches
from dehaze_bench.data.store import Store
from dehaze_bench.data.store_making import pack

SIZE = (460, 620)
HAZY_PER_CLEAR = 10


class LmdbCrops:
    """As BasicSR reads them: the bytes of PNG files as values, one transaction per picture, decoded whole."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names, self._open = folder, names, None

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        import io

        import lmdb

        if self._open is None:
            self._open = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False)
        pictures = []
        for key in (f"hazy/{self.names[index]}", f"gt/{self.names[index].split('_')[0]}"):
            with self._open.begin(write=False) as transaction:
                pictures.append(np.asarray(Image.open(io.BytesIO(transaction.get(key.encode())))))
        height, width = pictures[0].shape[:2]
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        window = np.s_[top : top + size, left : left + size]
        return Sample(self.names[index], *(picture[window].transpose(2, 0, 1) for picture in pictures))


def make_set(root: Path, num: int, samples: Path | None) -> None:
    """Write `num` hazy pictures and a clear one for each ten: real ones turned and shifted, or smooth noise."""
    (root / "ITS_v2/hazy").mkdir(parents=True)
    (root / "ITS_v2/gt").mkdir()
    rng = np.random.default_rng(0)
    for scene in range(1, num // HAZY_PER_CLEAR + 1):
        clear = _picture(samples / f"its/gt/{1 + scene % 2}.png" if samples else None, rng)
        Image.fromarray(clear).save(root / f"ITS_v2/gt/{scene}.png")
        for k in range(1, HAZY_PER_CLEAR + 1):
            t = rng.uniform(0.2, 0.9)
            hazy = np.rint(clear * t + 255 * rng.uniform(0.7, 1.0) * (1 - t)).clip(0, 255).astype(np.uint8)
            Image.fromarray(hazy).save(root / f"ITS_v2/hazy/{scene}_{k}_0.9.png")


def _picture(path: Path | None, rng: np.random.Generator) -> np.ndarray:
    if path is not None:
        shift = [int(rng.integers(n)) for n in SIZE]
        return np.roll(np.asarray(Image.open(path).convert("RGB")), shift, (0, 1))
    coarse = rng.uniform(0, 255, (SIZE[0] // 20, SIZE[1] // 20, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC), np.float32)
    return (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def open_sets(root: Path, work: Path) -> dict[str, TrainingSet]:
    """Return the files, the packed copy (also with one shard mapped at a time) and LMDB, the last where it is there."""
    files = FolderCrops("its", str(root), ["ITS_v2"])
    pairs = files.pairs
    assert pairs.clear is not None
    folder = work / "dataset-its"
    pack("its", folder, root / "ITS_v2", pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=False)
    sets: dict[str, TrainingSet] = {"png": files, "packed": FolderCrops("its", str(folder))}
    one = FolderCrops("its", str(folder))
    one._source = Store(folder, open_shards=1)
    sets["packed, 1 shard mapped"] = one
    try:
        import lmdb
    except ImportError:
        return sets
    database = lmdb.open(str(work / "its.lmdb"), map_size=2**36)
    with database.begin(write=True) as transaction:
        for path in [*pairs.hazy, *pairs.clear]:
            transaction.put(f"{path.parent.name}/{path.stem}".encode(), path.read_bytes())
    database.close()
    return sets | {"lmdb": LmdbCrops(work / "its.lmdb", pairs.names)}


def measure_reading(sets: Mapping[str, TrainingSet], crop: int, num: int, rounds: int) -> dict[str, float]:
    """Return CPU microseconds per crop of a pair, the median of rounds in which the sets take turns."""
    found: dict[str, list[float]] = {name: [] for name in sets}
    for turn in range(rounds + 1):
        for name, dataset in sets.items():
            rng = np.random.default_rng(turn)
            chosen = rng.integers(len(dataset), size=num if name.startswith("packed") else max(num // 10, 10))
            start = time.process_time()
            for index in chosen:
                dataset.sample(int(index), crop, rng)
            found[name].append((time.process_time() - start) / len(chosen) * 1e6)
    return {name: float(np.median(times[1:])) for name, times in found.items()}


def measure_loading(dataset: TrainingSet, crop: int, steps: int, workers: int) -> tuple[float, float]:
    """Return crops per CPU second, workers included, and per second; measured in a process of its own."""
    return _apart(_load, dataset, crop, steps, workers)


def _load(dataset: TrainingSet, crop: int, steps: int, workers: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    warm = 4
    made = batches(
        dataset, seed=0, start=0, stop=steps + warm, batch=8, crop=crop, augment=("flip",), num_workers=workers
    )
    for _ in range(warm):
        next(made)
    start, cpu = time.perf_counter(), _cpu_seconds()
    num = sum(len(batch.names) for batch in made)
    wall = time.perf_counter() - start
    return num / (_cpu_seconds() - cpu), num / wall


def _cpu_seconds() -> float:
    """CPU time of this process and of all it started, those that still run included (Linux)."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            fields = stat.read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure_memory(dataset: TrainingSet, crop: int, num: int) -> list[dict[str, float]]:
    """Return resident MiB, anonymous and mapped, above those before the first crop: after a tenth and after all."""
    return _apart(_read_much, dataset, crop, num)


def _read_much(dataset: TrainingSet, crop: int, num: int) -> list[dict[str, float]]:
    dataset = pickle.loads(pickle.dumps(dataset))  # no shard is mapped yet
    rng = np.random.default_rng(1)
    before, found = _resident(), []
    for step in range(num):
        dataset.sample(int(rng.integers(len(dataset))), crop, rng)
        if step + 1 in (max(num // 10, 1), num):
            found.append({key: value - before[key] for key, value in _resident().items()})
    return found


def measure_touch(dataset: TrainingSet, crop: int, num: int) -> float:
    """Return KiB of shards that a process touches per crop of a pair, when it has nothing mapped."""
    return _apart(_touch, dataset, crop, num)


def _touch(dataset: TrainingSet, crop: int, num: int) -> float:
    dataset = pickle.loads(pickle.dumps(dataset))
    rng = np.random.default_rng(2)
    mapped = _resident()["RssFile"]
    for index in rng.choice(len(dataset), num, replace=False):
        dataset.sample(int(index), crop, rng)
    return (_resident()["RssFile"] - mapped) * 1024 / num


def _resident() -> dict[str, float]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(lines[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile")}


def _apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a forked process, so that nothing that is opened or allocated there stays here."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(call(*arguments)))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit("the measuring process failed; its error stands above") from None
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300, help="hazy pictures of the set that is made")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--samples", type=Path, help="a folder with its/gt/{1,2}.png: real pictures instead of noise")
    parser.add_argument("--quick", action="store_true", help="a minute less, rougher")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    num, rounds, steps = (300, 3, 12) if options.quick else (1000, 7, 40)
    work = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        make_set(work / "data", options.pictures, options.samples)
        sets = open_sets(work / "data", work)
        shards = list((work / "dataset-its").glob("*.safetensors"))
        result: dict[str, Any] = {"machine": describe_machine(torch.device("cpu")), "pictures": options.pictures}
        result["shards"] = {"number": len(shards), "MiB": sum(path.stat().st_size for path in shards) / 2**20}
        print(json.dumps(result))
        result["reading"] = _apart(measure_reading, sets, options.crop, num, rounds)
        print(f"\n{'reading':24s} {'us of CPU per crop':>20s} {'crops/s per core':>18s} {'over png':>9s}")
        for name, us in result["reading"].items():
            print(f"{name:24s} {us:20.0f} {1e6 / us:18.0f} {result['reading']['png'] / us:9.1f}")
        result["loading"] = {}
        print(f"\n{'loading':24s} {'workers':>8s} {'crops/s of CPU':>15s} {'over png':>9s} {'crops/s':>9s}")
        for workers in (0, 1, 2):
            for name, dataset in sets.items():
                if name == "packed, 1 shard mapped":
                    continue  # differs from "packed" in the memory alone
                longer = 8 if name == "packed" else 1
                rates = measure_loading(dataset, options.crop, steps * longer, workers)
                result["loading"][f"{name}, {workers}"] = rates
                ratio = rates[0] / result["loading"][f"png, {workers}"][0]
                print(f"{name:24s} {workers:8d} {rates[0]:15.0f} {ratio:9.1f} {rates[1]:9.0f}")
        result["memory"] = {n: measure_memory(d, options.crop, num * 2) for n, d in sets.items() if n != "png"}
        print(
            f"\n{'memory above the start':24s} {'own MiB':>18s} {'mapped MiB':>20s}   after {num // 5}, {num * 2} crops"
        )
        for name, (early, late) in result["memory"].items():
            own, mapped = ([at[key] for at in (early, late)] for key in ("RssAnon", "RssFile"))
            print(f"{name:24s} {own[0]:9.1f} {own[1]:8.1f} {mapped[0]:11.1f} {mapped[1]:8.1f}")
        result["touched"] = measure_touch(sets["packed"], options.crop, len(sets["png"]) // 4)
        rows, whole = (2 * 3 * SIZE[1] * height / 1024 for height in (options.crop, SIZE[0]))
        print(
            f"\npacked, KiB per crop of a pair: {result['touched']:.0f} touched; "
            f"{2 * 3 * options.crop**2 / 1024:.0f} of pixels, {rows:.0f} of the rows they lie in, {whole:.0f} of whole "
            "pictures"
        )
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
