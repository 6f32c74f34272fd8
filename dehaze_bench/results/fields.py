"""Typed look-ups in parsed JSON or YAML, whose errors name the file and the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dehaze_bench.errors import UsageError, nearest


class Fields:
    """Typed look-ups in one JSON object, whose errors name the file and the field."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise UsageError(f"{where}: expected an object with named fields, found {type(raw).__name__}")
        self.raw: dict[str, Any] = raw
        self.where = where

    def error(self, name: str, what: str) -> UsageError:
        return UsageError(f"{self.where}: field '{name}' {what}")

    def get(self, name: str) -> Any:
        if name not in self.raw:
            raise self.error(name, f"is missing; found {', '.join(sorted(self.raw)) or 'nothing'}")
        return self.raw[name]

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise self.error(name, f"must be text, found {value!r}")
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, found {value!r}")
        return value

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        value = self.text(name)
        if value not in choices:
            raise self.error(name, f"is '{value}'. {nearest(value, choices)}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.error(name, f"must be an object, found {value!r}")
        return value

    def integer(self, name: str, optional: bool = False) -> Any:
        value = self.get(name)
        if (value is None and optional) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self.error(name, f"must be a whole number, found {value!r}")

    def number(self, name: str, optional: bool = False) -> Any:
        value = self.get(name)
        if value is None and optional:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and value in ("inf", "-inf", "nan"):
            return float(value)
        raise self.error(name, f"must be a number, found {value!r}")

    def size(self, name: str) -> tuple[int, int] | None:
        """A pair [height, width], or None where the value is null or absent."""
        value = self.raw.get(name)
        if value is None:
            return None
        sides = value if isinstance(value, list) else []
        if len(sides) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides):
            raise self.error(name, f"must be [height, width], found {value!r}")
        return sides[0], sides[1]

    def check_keys(self, known: Sequence[str]) -> None:
        """Refuse keys that nobody reads, so that a typing error is not silently ignored."""
        for name in self.raw:
            if name not in known:
                raise UsageError(f"{self.where}: unknown key '{name}'. {nearest(str(name), known)}")

    def text_list(self, name: str) -> tuple[str, ...]:
        """A list of texts, empty where the key is absent; numbers and `a: b` are refused."""
        value = self.raw.get(name)
        for item in self._list(name, value):
            if not isinstance(item, str):
                raise self.error(name, f"must hold texts, found {item!r}; quote it")
        return tuple(value or ())

    def integer_list(self, name: str) -> tuple[int, ...]:
        """A list of distinct whole numbers, empty where the key is absent."""
        value = self.raw.get(name)
        for item in self._list(name, value):
            if not isinstance(item, int) or isinstance(item, bool):
                raise self.error(name, f"must hold whole numbers, found {item!r}")
        numbers = tuple(value or ())
        if len(set(numbers)) < len(numbers):
            raise self.error(name, f"repeats a value: {list(numbers)}")
        return numbers

    def _list(self, name: str, value: object) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, found {value!r}")
        return value
