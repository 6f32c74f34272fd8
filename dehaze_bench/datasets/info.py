"""`data info`: which sets lie under the root, in whose layout, and how they compare with what is published."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dehaze_bench.arguments import Arguments, flag, option
from dehaze_bench.errors import UsageError


def run(argv: Arguments) -> int:
    """Print what is found, as text or JSON; the exit code is 1 where a set that was named, or any set, is missing."""
    from dehaze_bench.data.survey import survey

    as_json, rest = flag(argv, "--json")
    root, names = option(rest, "--root")
    for text in names:
        if text.startswith("-") or "=" in text:
            raise UsageError(f"data info does not know '{text}'. It takes names of sets, --root DIR and --json.")
    root = root or os.environ.get("DEHAZE_DATA", "data")
    found = survey(root, names)
    absent = [name for name in names if name not in {one.name for one in found}]
    plain = report(Path(root).expanduser().absolute(), [_plain(one) for one in found], absent)
    print(json.dumps(plain, indent=2) if as_json else as_text(plain))
    return 1 if absent or not found else 0


def report(root: Path, found: Sequence[Mapping[str, Any]], absent: Sequence[str]) -> dict[str, Any]:
    """Return the whole answer as plain data."""
    from dehaze_bench.data.pairs import decoder

    return {"root": str(root), "decoder": decoder(), "found": list(found), "absent": list(absent)}


def as_text(plain: Mapping[str, Any]) -> str:
    """Return the answer for a terminal."""
    lines = [f"root     {plain['root']}", f"decoder  {plain['decoder']}"]
    for one in plain["found"]:
        version = f", version {one['version']}" if one["version"] else ""
        lines += ["", f"{one['name']} ({one['part']}): {one['title']}{version}"]
        rows = [
            ("layout", one["layout_of"]),
            ("hazy", _folder(one["hazy"])),
            ("clear", _folder(one["clear"]) if one["clear"]["folders"] else "none: a set without ground truth"),
            ("pairing", one["pairing"]),
            ("counts", _counts(one)),
            ("files", ", ".join(f"{number} {suffix}" for suffix, number in one["formats"].items()) or "none"),
            *(("note", text) for text in one["notes"]),
        ]
        lines += [f"  {label:9}{text}" for label, text in rows]
    if not plain["found"]:
        lines += ["", "No known data set in any known layout. `dehaze-bench ls datasets` names what is looked for."]
    lines += [f"{'' if i else chr(10)}absent: {name}" for i, name in enumerate(plain["absent"])]
    return "\n".join(lines)


def _plain(one: Any) -> dict[str, Any]:
    from dehaze_bench.data.known import KNOWN

    known = KNOWN[one.name]
    part = known.part(one.role)
    sides = {
        side: {
            "folders": folders,
            "count": count,
            "sizes": [{"width": w, "height": h, "of_sample": n} for (w, h), n in sizes.items()],
        }
        for side, folders, count, sizes in (
            ("hazy", one.hazy_folders, one.hazy, one.hazy_sizes),
            ("clear", one.clear_folders, one.clear, one.clear_sizes),
        )
    }
    published = [{"version": v.name, "hazy": v.hazy, "clear": v.clear} for v in part.versions] if part else []
    return {
        "name": one.name,
        "part": one.role,
        "title": one.title,
        "layout_of": one.keeper,
        "pairing": one.layout,
        **sides,
        "scenes": len(one.scenes),
        "published": published,
        "complete": one.complete,
        "version": one.version,
        "naming": part.naming if part else "",
        "formats": one.formats,
        "notes": [*one.remarks, *([known.note] if known.note else [])],
    }


def _folder(side: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{s['width']}x{s['height']}" for s in side["sizes"][:3])
    more = f" and {len(side['sizes']) - 3} other sizes" if len(side["sizes"]) > 3 else ""
    return f"{side['count']:,} in {' and '.join(side['folders'])}: {sizes or 'nothing readable'}{more}"


def _counts(one: Mapping[str, Any]) -> str:
    published = " or ".join(
        f"{v['hazy']:,} hazy and {v['clear']:,} clear{' (' + v['version'] + ')' if v['version'] else ''}"
        for v in one["published"]
    )
    here = f"{one['hazy']['count']:,} hazy and {one['clear']['count']:,} clear"
    if not published:
        return f"{here}; no published count is known"
    return f"{here}, {'as published' if one['complete'] else 'NOT as published'}: {published}"
