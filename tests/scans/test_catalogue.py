"""Reading scan files without Hydra and torch gives what Hydra builds; a broken file spoils nothing but itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dehaze_bench import build, registry
from dehaze_bench.errors import UsageError
from dehaze_bench.scans import catalogue
from dehaze_bench.scans.catalogue import Entry

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {entry.name: entry for entry in catalogue.entries()}


def put(folder: Path, name: str, text: str) -> None:
    path = folder / "conf" / "scan" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def find(name: str) -> Entry:
    return {entry.name: entry for entry in catalogue.entries()}[name]


def test_every_file_is_an_entry() -> None:
    assert {name: entry.description for name, entry in ENTRIES.items()} == registry.list_choices("scan")
    assert not [entry.error for entry in ENTRIES.values() if entry.error]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_catalogue_and_hydra_agree(name: str) -> None:
    entry = ENTRIES[name]
    scan = build.scan(OmegaConf.create({"scan": OmegaConf.load(ROOT / "conf" / "scan" / f"{name}.yaml")}))
    assert entry.is_native == (scan is None)
    if scan is None:
        return
    assert (entry.name, entry.merge, entry.mode) == (scan.name, scan.merge, scan.mode)
    assert entry.is_dynamic != scan.is_static
    if entry.is_dynamic:
        return
    assert entry.axes == scan.axes
    grid = entry.default(catalogue.SHOWN)
    ours = [ids for _, ids_KL in entry.routes(grid) for ids in ids_KL]
    theirs = [ids.numpy() for routes in scan.on(grid) for ids in routes.index_KL]
    assert len(ours) == len(theirs) == len(entry.measure(grid).routes)
    for mine, their in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, their)


def test_the_users_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = "{_target_: dehaze_bench.scans.planar.raster, _partial_: true}"
    put(tmp_path, "cross", f"# Mine\n_target_: dehaze_bench.scans.Scan\nname: cross\norder: {raster}\n")
    monkeypatch.chdir(tmp_path)
    assert find("cross").description == "Mine"
    assert len(find("cross").measure((4, 4)).routes) == 1
    assert find("raster").description == ENTRIES["raster"].description


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# d\na: [1\n", "cannot be read"),
        ("# d\n- 1\n", "no mapping"),
        ("# d\n_target_: dehaze_bench.scans.Scan\nname: x\n", "with an order"),
        ("# d\n_target_: somewhere.Else\norder: 3\n", "dehaze_bench.scans.Scan"),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: 3\n", "no function"),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: {_target_: not_there.f, _partial_: true}\n", "not_there"),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: {_target_: dehaze_bench.scans.planar.rastr}\n", "rastr"),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: {_target_: os.getcwd}\n", "DEHAZE_TARGETS=os"),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: {_target_: os.chdir, _partial_: true}\n", "'os.chdir'"),
        (
            "# d\n_target_: dehaze_bench.scans.Scan\norder: {_target_: dehaze_bench.scans.planar.raster}\n",
            "_partial_: true",
        ),
        ("# d\n_target_: dehaze_bench.scans.Scan\norder: ${seed}\n", "inside a whole config"),
    ],
)
def test_a_broken_file_is_an_entry_that_says_why(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "broken", text)
    monkeypatch.chdir(tmp_path)
    entry = find("broken")
    assert words in entry.error
    assert entry.description == "d"
    with pytest.raises(UsageError, match="'broken'"):
        entry.measure((4, 4))


def test_whatever_an_order_raises_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scans_of_a_user.py").write_text("def two(grid):\n    height, width = grid\n    return [[0]]\n")
    order = "{_target_: scans_of_a_user.two, _partial_: true}"
    put(tmp_path, "two", f"_target_: dehaze_bench.scans.Scan\nname: two\norder: {order}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "DEHAZE_TARGETS=scans_of_a_user" in find("two").error
    monkeypatch.setenv("DEHAZE_TARGETS", "scans_of_a_user")
    entry = find("two")
    assert entry.axes == (2,)
    with pytest.raises(UsageError, match=r"'two' cannot walk.*ValueError"):
        entry.measure((2, 2, 2))


def test_orders_that_are_drawn_are_found_without_importing_them() -> None:
    code = (
        "import sys; from dehaze_bench.scans import catalogue; "
        "drawn = [entry.name for entry in catalogue.entries() if entry.is_dynamic]; "
        "print(*drawn); sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [entry.name for entry in ENTRIES.values() if entry.is_dynamic]
    for entry in ENTRIES.values():
        if entry.is_dynamic:
            with pytest.raises(UsageError, match="forward pass"):
                entry.measure((4, 4))
