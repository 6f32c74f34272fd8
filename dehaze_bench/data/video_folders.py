"""Where the frames of videos lie: VIDEO/FRAME as in REVIDE, SOURCE/VIDEO/FRAME as in HazeWorld.

HazeWorld is downloaded as {hazy,gt}/SOURCE/SPLIT/VIDEO/FRAME, where one true video serves several hazy ones that end
in airlight and beta (bear_239_0.005 of bear). Its script links them as {train,test}/{hazy,gt}/SOURCE/VIDEO/FRAME, with
one name on both sides. Both trees are read, under the names of the linked one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dehaze_bench.data.known import MAPPING
from dehaze_bench.errors import UsageError

_HAZE = re.compile(r"_\d+_\d*\.\d+$")


def list_videos(
    name: str, folders: Sequence[Path], depth: int, role: str = "", truth: Path | None = None
) -> dict[str, Path]:
    """Return video name -> folder of frames, in order.

    Args:
        name: of the set, for messages.
        folders: of the hazy or of the clear side.
        depth: 1 for VIDEO, 2 for SOURCE/VIDEO.
        role: "train" or "test" where SPLIT stands between source and video.
        truth: the folder of the clear side, whose mapping files say which splits are of that role.
    """
    videos: dict[str, Path] = {}
    for folder in folders:
        for source in _inside(folder) if depth == 2 else [folder]:
            splits = [source / split for split in _splits(name, source.name, role, truth)] if truth else [source]
            for split in splits:
                prefix = f"{source.name}/" if depth == 2 else ""
                videos |= {f"{prefix}{video.name}": video for video in _inside(split)}
    return videos


def video_of(frame: str) -> str:
    """Return the true video that a frame's name says, DAVIS/bear of DAVIS/bear_239_0.005/00000; "" if in no folder."""
    return _HAZE.sub("", frame.rpartition("/")[0])


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _splits(name: str, source: str, role: str, truth: Path) -> list[str]:
    path = truth / source / MAPPING.format(role=role)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"{name}: {path} cannot be read ({error.strerror}). It says which videos are for training and which for "
            "tests: restore it from the download, or make the linked tree with the script of the set."
        ) from error
    return sorted({line.split()[0] for line in lines if line.strip()})
