"""The page docs/protocols.md: `python -m dehaze_bench.protocols_page docs` (or `make docs`) makes it anew.

What a protocol fixes comes from `conf/protocol`. How far protocols move a number was measured on real pictures, which
may not be shipped: with `--samples DIR` it is measured anew into docs/protocols.csv, which the page is made from.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from dehaze_bench import arguments, registry
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.metrics import CONVENTIONS, Protocol
from dehaze_bench.results.figures import figure, signed, title

PAGE, DATA = "protocols.md", "protocols.csv"
COLUMNS = ("psnr", "ssim")
DEFAULT = "full_rgb"
COMMAND = "python -m dehaze_bench.protocols_page docs --samples ../shared/samples"
HEADING = f"""\
# Protocols

A protocol is how a number is measured: which pixels (crop, border), which values (clamp, 8-bit step, RGB or luma),
which PSNR and SSIM (window, padding, pooling before it), and how images are averaged: as the mean of per-image values.
A table compares numbers of one protocol only. The file of a protocol in `conf/protocol` names the conventions of its
columns and the repositories that measure like this; each convention is tested against numbers that the published metric
functions gave. `protocol={DEFAULT}` is the default; `dehaze-bench eval run=ID protocol=NAME` measures old weights anew.
Made by `make docs`; edit the files, not this page.

## What each fixes
"""
MEASURED = f"""\
## How far they move a number

One picture restored once, measured under every protocol. "restored, strong" is a picture that the repository of FFA-Net
ships (SOTS-indoor 1400_2, stored with 8 bits). "restored, weak" is the same scene restored here with the published
weights of AOD-Net, in float, where rounding and truncation can show; no value of it exceeds 1, so clamping does not.
"hazy" is that scene unrestored; "hazy, 512" is a picture of SateHaze1k (thick, test 1), whose side of 512 pixels is
pooled by 2 where a protocol pools. Where a protocol crops before the network, the stored picture is cropped after it.
In brackets: minus {DEFAULT}.

"""
MADE = f"""\

Measured with `{COMMAND}`.
The pictures carry terms of their own and are not part of the project; where they lie elsewhere, name that folder.
"""

Restore = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """A picture to measure: (3, H, W) in [0, 1], before a network (or what stands for its output) and its target."""

    name: str
    before_CHW: Tensor
    target_CHW: Tensor
    restore: Restore | None = None


def main(argv: Sequence[str]) -> int:
    """Write protocols.md, and protocols.csv where samples are named, into a folder; return the exit code."""
    try:
        samples, rest = arguments.option(list(argv), "--samples")
        if len(rest) != 1 or rest[0].startswith("-"):
            print("usage: python -m dehaze_bench.protocols_page FOLDER [--samples DIR]", file=sys.stderr)
            return 2
        folder = Path(rest[0])
        if samples is not None:
            (folder / DATA).write_text(to_csv(measure(packaged(), read_samples(Path(samples)))), encoding="utf-8")
        (folder / PAGE).write_text(text(packaged(), read_csv(folder / DATA)), encoding="utf-8")
    except BenchError as error:
        print(f"protocols_page: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def packaged() -> list[Protocol]:
    """Return the protocols of the packaged tree by name, the default first, without the user's."""
    found = []
    for path in sorted((registry.conf_dirs()[-1] / "protocol").glob("*.yaml")):
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        node.pop("_target_")
        protocol = Protocol(**node)
        if not protocol.no_reference:
            found.append(protocol)
    return sorted(found, key=lambda protocol: protocol.name != DEFAULT)


def read_samples(folder: Path) -> list[Sample]:
    """Read the four pictures; raises `UsageError` naming what is missing."""
    indoor, satellite = folder / "sots_indoor", folder / "satehaze1k_thick" / "test"
    clear = _read(indoor / "gt" / "1400.png")[:, 10:-10, 10:-10]
    hazy = _read(indoor / "hazy" / "1400_2.png")
    strong = _read(indoor / "output_ffanet" / "1400_2_FFA.png")
    space = _read(satellite / "input" / "(1).png"), _read(satellite / "target" / "(1).png")
    network = _network("aodnet", folder / "weights" / "aodnet" / "dehazer.pth")
    return [
        Sample("restored, strong", strong, clear),
        Sample("restored, weak", hazy, clear, network),
        Sample("hazy", hazy, clear),
        Sample("hazy, 512", *space),
    ]


def measure(protocols: Sequence[Protocol], samples: Sequence[Sample]) -> dict[tuple[str, str, str], float]:
    """Return the value of each (picture, protocol, column); a network runs once for every crop."""
    values: dict[tuple[str, str, str], float] = {}
    for sample in samples:
        outputs: dict[str | None, Tensor] = {}
        for protocol in protocols:
            before, target = protocol.prepare(sample.before_CHW, sample.target_CHW)
            if protocol.crop not in outputs:
                outputs[protocol.crop] = before if sample.restore is None else sample.restore(before)
            for column, value in protocol.measure(outputs[protocol.crop], target).items():
                if column in COLUMNS:
                    values[sample.name, protocol.name, column] = value
    return values


def to_csv(values: Mapping[tuple[str, str, str], float]) -> str:
    """Write measured values, one per line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["picture", "protocol", "column", "value"])
    writer.writerows([*key, f"{value:.6f}"] for key, value in values.items())
    return out.getvalue()


def read_csv(path: Path) -> dict[tuple[str, str, str], float]:
    """Read measured values; raises `UsageError` where there are none."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return {(r["picture"], r["protocol"], r["column"]): float(r["value"]) for r in csv.DictReader(lines)}
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): measure with --samples DIR.") from error


def text(protocols: Sequence[Protocol], values: Mapping[tuple[str, str, str], float]) -> str:
    """Return the page in Markdown; raises `UsageError` for a protocol that was not measured."""
    missing = [p.name for p in protocols if not any(name == p.name for _, name, _ in values)]
    if missing:
        raise UsageError(f"protocol {', '.join(missing)} is not in {DATA}: measure anew, {COMMAND}")
    return "\n".join([HEADING, *_fixed(protocols), "", MEASURED + "\n".join(_moved(protocols, values)), MADE])


def _fixed(protocols: Sequence[Protocol]) -> Iterator[str]:
    yield "| protocol | measures | used by | remark |"
    yield "| :-- | :-- | :-- | :-- |"
    for protocol in protocols:
        rule = protocol.describe().removeprefix(f"{protocol.name}: ").removesuffix("; means of per-image values")
        users = ", ".join(protocol.used_by) or "ours"
        yield "| " + " | ".join(_cell(part) for part in (f"`{protocol.name}`", rule, users, protocol.note)) + " |"
    yield ""
    yield f"{len(protocols)} protocols over {len(CONVENTIONS)} conventions."


def _moved(protocols: Sequence[Protocol], values: Mapping[tuple[str, str, str], float]) -> Iterator[str]:
    pictures = list(dict.fromkeys(picture for picture, *_ in values))
    wanted = [(picture, column) for column in COLUMNS for picture in pictures]
    yield "| protocol | " + " | ".join(f"{title(column)}, {picture}" for picture, column in wanted) + " |"
    yield "| :-- |" + " --: |" * len(wanted)
    for protocol in protocols:
        yield f"| `{protocol.name}` | " + " | ".join(_value(values, *place, protocol.name) for place in wanted) + " |"
    comparable = [protocol.name for protocol in protocols if protocol.name != "mair_float"]
    spans = []
    for picture, column in wanted:
        found = [v for name in comparable if (v := values.get((picture, name, column))) is not None]
        spans.append(figure(column, max(found) - min(found)))
    yield "| highest minus lowest, without `mair_float` | " + " | ".join(spans) + " |"


def _value(values: Mapping[tuple[str, str, str], float], picture: str, column: str, protocol: str) -> str:
    value = values.get((picture, protocol, column))
    if value is None:
        return "–"
    base = values[picture, DEFAULT, column]
    if figure(column, abs(value - base)) == figure(column, 0.0):
        return figure(column, value)
    return f"{figure(column, value)} ({signed(column, value - base)})"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _read(path: Path) -> Tensor:
    from dehaze_bench.infer.picture import read_picture

    if not path.is_file():
        raise UsageError(f"{path} is not there: name the folder of sample pictures, --samples DIR.")
    return read_picture(path).image_CHW


def _network(model: str, weights: Path) -> Restore:
    from dehaze_bench import source
    from dehaze_bench.infer import restore

    if not weights.is_file():
        raise UsageError(f"{weights} is not there: name the folder of sample pictures, --samples DIR.")
    composed = source.compose_for([f"model={model}", f"weights='{weights}'", f"protocol={DEFAULT}"], None)
    network = source.load(composed, None).network
    return lambda hazy_CHW: restore(network, hazy_CHW, device=torch.device("cpu"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
