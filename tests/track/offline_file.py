"""Reads a `.wandb` file: a LevelDB-style log of 32 KiB blocks that holds protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """The protobuf records of a run in writing order; checks the header on the way."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", data[:7]
    position, partial = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if kind == 0:
            position += left
            continue
        chunk = data[position + 7 : position + 7 + length]
        position += 7 + length
        partial = chunk if kind in (FULL, FIRST) else partial + chunk
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            yield record


def history(path: Path) -> list[dict[str, Any]]:
    """The logged rows, one dict per step, without W&B's own timing fields."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows.append({key: json.loads(text) for key, text in items.items()})
    hidden = ("_runtime", "_timestamp")
    return [{key: value for key, value in row.items() if key not in hidden} for row in rows]


def staged_files(path: Path) -> dict[str, Path]:
    """Artifact entries of the run (tables and their pictures): name inside the artifact -> file on this disk."""
    return {
        entry.path: Path(entry.local_path)
        for record in records(path)
        if record.WhichOneof("record_type") == "artifact"
        for entry in record.artifact.manifest.contents
    }


def summary(path: Path) -> dict[str, Any]:
    """The summary as it stands at the end; nested keys are joined by a dot."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                found[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            for item in record.summary.remove:
                found.pop(item.key or ".".join(item.nested_key), None)
    return found
