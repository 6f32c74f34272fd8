from __future__ import annotations

import hashlib
import re
from pathlib import Path

import dehaze_bench.results.report

VENDOR = Path(dehaze_bench.results.report.__path__[0]) / "static" / "vendor"


def test_every_part_is_the_one_that_the_licences_name() -> None:
    text = (VENDOR / "LICENSES.txt").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^  (\S+) from \S+, sha256 ([0-9a-f]{64})$", text, re.MULTILINE))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "LICENSES.txt"
    }
    assert found == listed
    assert "Permission is hereby granted, free of charge" in text


def test_every_part_has_a_version_a_licence_and_an_author() -> None:
    text = (VENDOR / "LICENSES.txt").read_text(encoding="utf-8")
    blocks = [block for block in text.split("\n\n") if "sha256" in block]
    assert len(blocks) == 3
    for block in blocks:
        assert re.match(r"\S+ \d+\.\d+\.\d+ \(MIT\) https://\S+\n  Copyright", block), block


def test_the_parts_stay_small() -> None:
    assert sum(path.stat().st_size for path in VENDOR.iterdir()) < 100_000
