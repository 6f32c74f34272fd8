"""Where configs and experiments lie, and what there is to choose from. Standard library only, so `ls` is instant.

The file name is the public name; the comment that a file begins with is its description.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def conf_dirs() -> list[Path]:
    """Return the folders of config groups, the user's `./conf` first and the packaged one last."""
    return _dirs("conf", "config.yaml")


def experiment_dirs() -> list[Path]:
    """Return the folders of experiments, the user's `./experiments` first and the packaged one last."""
    return _dirs("experiments", "demo.yaml")


def cache_dir(own: str | None = None) -> Path:
    """Return the folder of what can be made again: `own`, else $DEHAZE_BENCH_CACHE, else ~/.cache/dehaze_bench."""
    return Path(own or os.environ.get("DEHAZE_BENCH_CACHE") or "~/.cache/dehaze_bench").expanduser()


def find_references() -> list[Path]:
    """Return the files of published numbers, by name; the user's own stand before ours."""
    found: dict[str, Path] = {}
    for folder in experiment_dirs():
        for path in sorted((folder / "references").glob("*.yaml")):
            found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def _dirs(name: str, marker: str) -> list[Path]:
    # In a wheel the trees lie inside the package, in a checkout beside it.
    packaged = next(
        (folder for folder in (PACKAGE / name, PACKAGE.parent / name) if (folder / marker).is_file()),
        PACKAGE / name,
    )
    user = Path.cwd() / name
    return [user, packaged] if user.is_dir() and user.resolve() != packaged.resolve() else [packaged]


def list_groups() -> list[str]:
    """Return the names of all config groups, nested ones with a slash (`model/mixer`); Hydra's own are none of ours."""
    found: set[str] = set()
    for root in conf_dirs():
        for folder, _, names in os.walk(root):  # several times as quick as pathlib, and asked for every override
            group = os.path.relpath(folder, root).replace("\\", "/")
            if group != "." and group.split("/")[0] != "hydra" and any(name.endswith(".yaml") for name in names):
                found.add(group)
    return sorted(found)


def list_choices(group: str) -> dict[str, str]:
    """Return the choices of a group with their one-line descriptions."""
    found: dict[str, str] = {}
    for root in conf_dirs():
        for path in sorted((root / group).glob("*.yaml")):
            found.setdefault(path.stem, describe(path))
    return dict(sorted(found.items()))


def find_choice(group: str, name: str) -> Path:
    """Return the file of a choice, the user's own before ours; `name` is one of `list_choices`."""
    return next(path for root in conf_dirs() if (path := root / group / f"{name}.yaml").is_file())


def describe(path: Path) -> str:
    """Return the first comment of a YAML file that is no directive (`# @package`), if nothing stands before it."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text = line.strip()
            if not text.startswith("#"):
                return ""
            if not text.lstrip("# ").startswith("@"):
                return text.lstrip("# ").strip()
    return ""
