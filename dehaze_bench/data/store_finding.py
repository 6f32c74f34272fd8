"""Where pixels come from: the packed copy of a set where there is one that fits, else its files.

A copy lies in `packed/` beside the folders of the set, or in a folder of copies, which is then the data root; the
root may also be the copy itself. Its pixels are those of the files, so results and the identity of a run are too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from dehaze_bench.data.store import MANIFEST, Files, Source, Store
from dehaze_bench.errors import UsageError

PACKED = "packed"
_log = logging.getLogger(__name__)


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all pictures of a set."""
    return Path(os.path.commonpath({os.path.abspath(path.parent) for path in paths}))


def copy_name(role: str, name: str) -> str:
    """Return the folder name of a packed copy; `role` is "dataset" or "testset"."""
    return f"{role}-{name}".replace("/", "-")


def find_under(root: str | Path, role: str, name: str) -> Store | None:
    """Return the packed copy that `root` is or directly holds; UsageError if the root is one but cannot be used."""
    root = Path(root).expanduser()
    if (root / MANIFEST).is_file():
        return Store(root)
    return _opened(root / copy_name(role, name) / MANIFEST)


def choose_source(paths: Sequence[Path], offered: Store | None = None) -> Source:
    """Return what to read these files through: `offered`, a copy beside them, or the files themselves.

    A copy that is unfinished, or older than a file, or lacks one, is passed over with a warning.
    """
    for store in [offered] if offered is not None else _beside(paths):
        unfit = store.misfit(paths)
        if unfit is None:
            return store
        _log.warning(
            "%s is not used: %s. The files are read instead; pack again: dehaze-bench data prepare %s",
            store.folder,
            unfit,
            store.manifest.name,
        )
    return Files()


def _beside(paths: Sequence[Path]) -> list[Store]:
    try:
        manifests = sorted((common_folder(paths) / PACKED).glob(f"*/{MANIFEST}"))
    except (ValueError, OSError):  # folders on two drives, or one that cannot be listed
        return []
    stores = [store for manifest in manifests if (store := _opened(manifest)) is not None]
    # Test and training set may share a folder: the smallest copy that holds all of them is theirs.
    return sorted((s for s in stores if s.holds(paths[0])), key=len)


def _opened(manifest: Path) -> Store | None:
    try:
        return Store(manifest.parent) if manifest.is_file() else None
    except UsageError as error:
        _log.warning("%s Until then it is not used.", error)
        return None
