"""The page docs/models.md: `python -m dehaze_bench.model_page docs` (or `make docs`) makes it anew.

Every number is counted on the meta device from the configs that a run would take.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from dehaze_bench import build, counting
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.infer.pad import multiple_of
from dehaze_bench.registry import list_choices
from dehaze_bench.targets import locate

HEADING = """\
# Models

Every file of `conf/model` and `conf/model/backbone`. Made by `make docs`; edit the files, not this page.
`dehaze-bench ls models` prints the same list; the module of each network opens with its paper, its published sizes and
what deviates from the released code. `dehaze-bench show model=NAME` prints parameters and multiply-adds of any
variant, `dehaze-bench profile` measures time and memory.

Parameters count what the network holds; MACs are multiply-adds of one image of 256 x 256 by our rule (matrix products,
convolutions and what the recurrences state; norms, activations and gathers are not counted). *scan* says whether
`scan=` may swap the order in which the network reads its tokens; *multiple* is what height and width are padded to.
"""
RESTORERS = """
## Restorers

| model | | parameters | MACs | scan | multiple |
| :-- | :-- | --: | --: | :-- | --: |
"""
BACKBONES = """
## Backbones

As restorers: `model=pyramid model/backbone=NAME` (feature pyramid, light decoder, soft reconstruction). Parameters and
MACs are those of the whole restorer.

| backbone | | parameters | MACs | scan | multiple |
| :-- | :-- | --: | --: | :-- | --: |
"""


def main(argv: Sequence[str]) -> int:
    """Write models.md into the folder that is named; return the exit code."""
    if len(argv) != 1:
        print("usage: python -m dehaze_bench.model_page FOLDER", file=sys.stderr)
        return 2
    rows = [_row(name, text, [f"model={name}"], "model") for name, text in list_choices("model").items()]
    backbones = [
        _row(name, text, ["model=pyramid", f"model/backbone={name}"], "model.backbone")
        for name, text in list_choices("model/backbone").items()
    ]
    page = "".join([HEADING, RESTORERS, *rows, BACKBONES, *backbones])
    Path(argv[0], "models.md").write_text(page, encoding="utf-8")
    return 0


def _row(name: str, text: str, overrides: Sequence[str], node: str) -> str:
    cfg = compose_run(overrides).cfg
    network = build.meta_model(cfg)
    part = cfg.model if node == "model" else cfg.model.backbone
    takes_scan = "scan" in inspect.signature(locate(str(part["_target_"]), node)).parameters
    try:
        macs = _short(counting.count_macs(network)) if build.trainable(network) else "–"
    except UsageError:
        macs = "takes volumes"
    cells = [f"`{name}`", text, f"{counting.count_params(network):,}", macs, "yes" if takes_scan else "no"]
    return "| " + " | ".join([*cells, str(multiple_of(network))]) + " |\n"


def _short(macs: float) -> str:
    unit, sign = (1e9, "G") if macs >= 1e9 else (1e6, "M")
    return f"{macs / unit:.4g} {sign}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
