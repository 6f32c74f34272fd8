"""MSBDN, DFF or RDFF."""

from __future__ import annotations

import re

from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.msbdn import MSBDN
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.msbdn import map_msbdn

VARIANT = re.compile(r"(?:msbdn-)?(r?dff)(?:[ -]v?1-1)?", re.IGNORECASE)


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    words = str(arguments.take("variant"))
    found = VARIANT.fullmatch(words.strip())
    if found is None:
        raise UsageError(f"{fixture.path}: build argument variant={words!r} is not supported, only DFF (v1-1) or RDFF")
    fusion = found[1].lower()
    network = MSBDN(fusion, arguments.optional("res_blocks", 18))
    return Built(network, map_msbdn, (fixture.image(),), _taps(fusion == "rdff"))


def _taps(relaxed: bool) -> dict[str, Tap]:
    taps = {name: Tap(name) for name in ("conv_input", "dehaze", "conv_output")}
    change = _first_half if relaxed else None  # published fusions end before the halves are joined
    for i, scale in enumerate(("2x", "4x", "8x", "16x")):
        taps |= {f"conv{scale}": Tap(f"downs.{i}"), f"convd{scale}": Tap(f"ups.{3 - i}")}
        taps |= {f"dense{i}": Tap(f"dense.{i}"), f"dense_{i + 1}": Tap(f"up_dense.{3 - i}")}
        ours = {f"{i + 1}": f"fusions.{i}", f"_{i + 1}": f"up_fusions.{3 - i}"}
        taps |= {f"fusion{number}": Tap(path, change) for number, path in ours.items()}
        taps |= {f"conv{number}": Tap(f"{path}.rest") for number, path in ours.items() if relaxed}
    return taps


def _first_half(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.chunk(2, dim=1)[0]
