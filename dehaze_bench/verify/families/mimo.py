"""What the fixtures of the MIMO family have in common."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.keymaps import KeyMap
from dehaze_bench.weights.maps.mimo import rename


def whole(fixture: Fixture, network: nn.Module, key_map: KeyMap) -> Built:
    """Return a whole network; of its image only what the fixture stores, which may be every n-th row and column."""
    hazy = fixture.image()
    step = _step(fixture, tuple(hazy.shape))
    return Built(network, key_map, (hazy,), submodules(fixture), lambda image: network(image)[..., ::step, ::step])


def part(fixture: Fixture, module: nn.Module, key_map: KeyMap, **paths: str) -> Built:
    """Return a part alone; `paths` are the modules of arrays that do not say where they come from."""
    taps = {array: Tap(path) for array, path in paths.items() if array in fixture.arrays}
    return Built(module, key_map, (fixture.image(),), {**taps, **submodules(fixture)})


def submodules(fixture: Fixture) -> dict[str, Tap]:
    """Return where the arrays are that the fixture describes as the output of a published submodule."""
    named = {array: re.match(r"output of submodule ([\w.]+)", fixture.describe(array)) for array in fixture.arrays}
    return {array: Tap(rename(found[1])) for array, found in named.items() if found}


def take_sizes(arguments: BuildArguments) -> dict[str, int]:
    """Return blocks per level and channels where they are stated; "published" is a remark on the released size."""
    arguments.optional("published", "")
    return {name: arguments.take(name) for name in ("num_res", "base") if name in arguments.left}


def take_block(
    arguments: BuildArguments, block: Callable[[bool], nn.Module], layer: Callable[[], nn.Module]
) -> nn.Module:
    """Return a block with or without filters, or where there is no word of that the filtering layer alone."""
    return block(arguments.expect("filter", True, False)) if "filter" in arguments.left else layer()


def _step(fixture: Fixture, shape: tuple[int, ...]) -> int:
    """Return n where the fixture stores every n-th row and column of its output."""
    stored = fixture.array("out").shape
    if len(stored) != 4:
        return 1
    step = -(-shape[2] // stored[2])
    if stored[2:] != (-(-shape[2] // step), -(-shape[3] // step)):
        raise UsageError(f"{fixture.path}: out {stored} is not every n-th row and column of {shape}.")
    return step
