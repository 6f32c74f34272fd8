"""Taking options, assignments and names out of a verb's arguments; what is left are overrides."""

from __future__ import annotations

from dehaze_bench import help
from dehaze_bench.errors import UsageError, nearest

Arguments = list[str]


def flag(argv: Arguments, *names: str) -> tuple[bool, Arguments]:
    """Take a switch out of the arguments."""
    return any(text in names for text in argv), [text for text in argv if text not in names]


def option(argv: Arguments, name: str) -> tuple[str | None, Arguments]:
    """Take `--name VALUE` or `--name=VALUE` out of the arguments; the last one counts."""
    values, rest = options(argv, name)
    return (values[-1] if values else None), rest


def options(argv: Arguments, name: str) -> tuple[list[str], Arguments]:
    """Take every `--name VALUE` or `--name=VALUE` out of the arguments, in their order."""
    values: list[str] = []
    texts, rest = iter(argv), []
    for text in texts:
        if text == name:
            value = next(texts, None)
            if value is None:
                raise UsageError(f"{name} needs a value.")
            values.append(value)
        elif text.startswith(f"{name}="):
            values.append(text.split("=", 1)[1])
        else:
            rest.append(text)
    return values, rest


def assignment(argv: Arguments, name: str) -> tuple[str | None, Arguments]:
    """Take `name=VALUE` out of the arguments."""
    values = [text.split("=", 1)[1] for text in argv if text.startswith(f"{name}=")]
    if "" in values:
        raise UsageError(f"{name}= needs a value.")
    return (values[-1] if values else None), [text for text in argv if not text.startswith(f"{name}=")]


def positional(argv: Arguments, verb: str, what: str) -> tuple[str, Arguments]:
    """Take the one argument that is neither an option nor an override; raises `UsageError` where it is missing."""
    names = [text for text in argv if "=" not in text and not text.startswith(("-", "~"))]
    if not names:
        raise UsageError(f"{verb} needs {what}: dehaze-bench {verb} demo (`dehaze-bench ls experiments` lists them).")
    if len(names) > 1:
        raise UsageError(f"{verb} takes one name, not {', '.join(names)}; options go as key=value.")
    return names[0], [text for text in argv if text != names[0]]


def only_overrides(verb: str, argv: Arguments) -> None:
    """Raise `UsageError` for an unknown option and for a word that is no override."""
    for text in argv:
        if text.startswith("-"):
            known = {word.strip("[],|") for word in help.VERBS[verb].split() if word.lstrip("[").startswith("--")}
            hint = nearest(text, known) if known else f"{verb} has none."
            raise UsageError(f"Unknown option '{text}' of {verb}. {hint}")
        if "=" not in text and not text.startswith("~"):
            raise UsageError(
                f"'{text}' is not an override: write group=choice or key=value (`dehaze-bench {verb} --help`)."
            )


def integer(text: str | None, key: str) -> int | None:
    """Return the whole number, or None for None."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{key}={text} is not a whole number.") from None
