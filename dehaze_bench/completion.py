"""Shell completion: what may come next on a command line, from file names alone; no torch, no Hydra.

`dehaze-bench completion bash` (or zsh, fish) prints a script to evaluate; the script asks `completion query LINE`.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from dehaze_bench import help, listing
from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import experiment_dirs, list_choices, list_groups

SHELLS = ("bash", "zsh", "fish")
# Verbs that take overrides of a run, an experiment first, or a kind of things first.
_OVERRIDES = ("train", "eval", "check", "show", "profile", "restore", "sweep", "table")
_EXPERIMENT = ("sweep", "table", "check", "profile", "report", "publish")
_DATA = ("info", "verify", "prepare", "synthesize")

# `=` splits words in bash, so only what follows the last one may be answered.
_BASH = """\
_dehaze_bench() {
  local IFS=$'\\n'
  COMPREPLY=($(dehaze-bench completion query "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o nospace -o default -F _dehaze_bench dehaze-bench
"""
_SCRIPTS = {
    "bash": _BASH,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}",
    "fish": "complete -c dehaze-bench -a '(dehaze-bench completion query --whole (commandline -cp))'\n",
}


def run(argv: Arguments) -> int:
    """Print the script of a shell, or the candidates for a command line."""
    if argv[:1] == ["query"]:
        whole = "--whole" in argv[1:]
        line = " ".join(text for text in argv[1:] if text != "--whole")
        word = line.rsplit(" ", 1)[-1]
        for found in candidates(line):
            # A bare key or option still waits for its value; what is complete ends with a space.
            text = found if found.endswith(("=", "/")) or whole else f"{found} "
            print(text if whole else text[word.rfind("=") + 1 :])
        return 0
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise UsageError(f"completion needs a shell. {nearest(argv[0] if argv else '', SHELLS)}")
    print(_SCRIPTS[argv[0]], end="")
    return 0


def candidates(line: str) -> list[str]:
    """Return the whole words that may stand at the end of a command line, the program's name being its first."""
    words = line.split(" ")
    word, before = words[-1], [text for text in words[1:-1] if text]
    if not before:
        found = list(help.VERBS)
    elif word.startswith("-"):
        found = _options(before[0])
    elif "=" in word:
        found = _values(word)
    else:
        found = [*_names(before), *(_keys() if before[0] in _OVERRIDES else [])]
    return sorted({text for text in found if text.startswith(word)})


def _options(verb: str) -> list[str]:
    words = help.VERBS.get(verb, "").replace("[", " ").replace("]", " ").replace("|", " ").split()
    return [*(text for text in words if text.startswith("--") and "=" not in text), "--help"]


def _names(before: list[str]) -> list[str]:
    """Names that a verb takes in the place of an override."""
    verb, named = before[0], [text for text in before[1:] if "=" not in text and not text.startswith("-")]
    if verb in _EXPERIMENT:
        return [path.stem for folder in experiment_dirs() for path in folder.glob("*.yaml")] if not named else []
    if verb == "ls":
        return [*listing.GROUPS, *listing.FILES] if not named else []
    if verb == "data":
        return [*list_choices("dataset"), *list_choices("testset")] if named else list(_DATA)
    if verb == "completion":
        return list(SHELLS)
    if verb == "new":
        return ["experiment", "scan", "model"] if not named else []
    return list(help.VERBS) if verb == "help" else []


def _keys() -> list[str]:
    from dehaze_bench.config import SECTIONS

    plain = [f"{section}.{item.name}=" for section, schema in SECTIONS.items() for item in fields(schema)]
    return [*(f"{group}=" for group in list_groups()), *plain, "seed=", "weights=", "run="]


def _values(word: str) -> list[str]:
    key, _, typed = word.partition("=")
    head = typed[: typed.rfind(",") + 1]  # a multirun names several
    if key in list_groups():
        values = list(list_choices(key))
    elif key == "run":
        values = [path.parent.name.rsplit("-", 1)[-1] for path in Path("runs").glob("*/result.json")]
    else:
        from dehaze_bench import config

        known = {
            "train.select": config.SELECTIONS,
            "runtime.precision": config.PRECISIONS,
            "runtime.device": ("auto", "cpu", "cuda"),
        }
        values = list(known.get(key, ()))
    return [f"{key}={head}{value}" for value in values]
