"""`dehaze-bench data synthesize`: hazy pictures from clear ones and depth, or from satellite bands and cirrus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dehaze_bench.arguments import Arguments, integer, only_overrides, option
from dehaze_bench.errors import UsageError, nearest

_RSHAZE_KEYS = ("seed", "normalise", "strengths")
_DEPTH_KEYS = (
    "seed", "copies", "margin", "names", "quality", "beta", "airlight",
    "depth.kind", "depth.scale", "depth.far", "depth.holes",
)  # fmt: skip
_WHOLE = ("seed", "copies", "margin", "quality")


def run(argv: Arguments) -> int:
    """Make the pictures, say where they are, and return 0."""
    from dehaze_bench.data.synthesis import RECIPES, choose_recipe
    from dehaze_bench.data.synthesis_depth import DepthRule
    from dehaze_bench.data.synthesis_folders import Settings, synthesize, synthesize_rshaze

    folders: dict[str, Path] = {}
    for key in ("clear", "depth", "cirrus", "out"):
        text, argv = option(argv, f"--{key}")
        if text is not None:
            folders[key] = Path(text).expanduser()
    text, argv = option(argv, "--workers")
    workers = 1 if text is None else integer(text, "--workers") or 0
    words = [word for word in argv if "=" not in word and not word.startswith("-")]
    recipes = (*RECIPES, "rshaze")
    if len(words) != 1 or words[0] not in recipes:
        name = " ".join(words)
        raise UsageError(f"data synthesize needs one recipe, not '{name}'. {nearest(name, recipes)}")
    name = words[0]
    second = "cirrus" if name == "rshaze" else "depth"
    for key in ("clear", second, "out"):
        if key not in folders:
            raise UsageError(f"data synthesize {name} needs --{key} DIR.")
    other = "depth" if name == "rshaze" else "cirrus"
    if other in folders:
        raise UsageError(f"--{other} is of no use to recipe {name}, which reads --{second}. Leave it out.")
    rest = [word for word in argv if word != name]
    only_overrides("data", [word for word in rest if "=" not in word or word.startswith("-")])
    values = _read_values([word for word in rest if "=" in word], _RSHAZE_KEYS if name == "rshaze" else _DEPTH_KEYS)
    if name == "rshaze":
        renamed = {{"normalise": "normalisation"}.get(key, key): value for key, value in values.items()}
        num = synthesize_rshaze(
            folders["clear"], folders["cirrus"], folders["out"], **renamed, workers=workers, progress=_track
        )
    else:
        recipe = choose_recipe(name, values.pop("beta", None), values.pop("airlight", None))
        rule = DepthRule(**{key[6:]: value for key, value in values.items() if key.startswith("depth.")})
        settings = Settings(**{key: value for key, value in values.items() if not key.startswith("depth.")})
        num = synthesize(
            recipe, folders["clear"], folders["depth"], folders["out"], settings, rule, workers, progress=_track
        )
    print(
        f"{num} hazy pictures of recipe {name} in {folders['out']}: hazy/, clear/, haze.csv (what each was made with)."
    )
    return 0


def _read_values(words: Arguments, keys: tuple[str, ...]) -> dict[str, Any]:
    """Turn key=value words into values of their types."""
    values: dict[str, Any] = {}
    for word in words:
        key, text = word.split("=", 1)
        if key not in keys:
            raise UsageError(f"{key}={text}: this recipe knows no '{key}'. {nearest(key, keys)}")
        if key in _WHOLE:
            values[key] = integer(text, key)
        elif key in ("beta", "airlight"):
            values[key] = [_number(part, key) for part in text.strip("[]").split(",")]
        elif key in ("depth.scale", "depth.far"):
            values[key] = _number(text, key)
        else:
            values[key] = text
    return values


def _number(text: str, key: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{key}={text} is not a number.") from None


def _track(rows: Iterator[list[dict[str, Any]]], num: int) -> Iterable[list[dict[str, Any]]]:
    """Show a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(rows, description="scenes", total=num, console=console) if console.is_terminal else rows
