"""What a published file of weights is: the model of conf/model whose tensors it holds, by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import find_choice, list_choices
from dehaze_bench.weights.files import read_tensors
from dehaze_bench.weights.keymaps import NAMES, family_of, key_map
from dehaze_bench.weights.loading import check_fit
from dehaze_bench.weights.published import MARKS, PROTOCOLS

SAME_FAMILY, SOME = 0.5, 0.2  # shares of names in common: worth no further search, worth a hint


@dataclass(frozen=True)
class Identified:
    """The model that a file fits, others that it fits as well, and the protocol that its authors measured with."""

    model: str
    also: tuple[str, ...]
    protocol: str | None
    num_parameters: int

    def sentence(self, path: Path) -> str:
        """Return what was found, for the user."""
        more = f" (fits {', '.join(self.also)} too: choose with model=NAME)" if self.also else ""
        return f"{path}: this is model={self.model}, {self.num_parameters:,} parameters{more}"


def identify(path: Path) -> Identified:
    """Return the model whose tensors are those of the file, after the key map of its family.

    Raises `UsageError` for a file that cannot be read and for one that fits none, with the model that comes nearest.
    """
    tensors, _ = read_tensors(path)
    shapes = {re.sub(r"\d+", "#", name) for name in tensors}
    marked = {family for family, mark in MARKS.items() if any(name.endswith(mark) for name in shapes)}
    likely = marked or set(NAMES) - MARKS.keys()
    fitting: list[tuple[str, nn.Module]] = []
    nearest_to = (0.0, "", "")
    for families in (likely, set(NAMES) - likely):
        for names in _models(families):
            for name in names:
                network = build.meta_model(compose_run([f"model={name}"]).cfg)
                fault, common = _compare(network, tensors, str(path))
                nearest_to = max(nearest_to, (common, name, fault))
                if not fault:
                    fitting.append((name, network))
                if common < SOME:  # nor will its other sizes
                    break
        if fitting or nearest_to[0] > SAME_FAMILY:
            break
    if not fitting:
        hint = f" The nearest is {nearest_to[1]}: {nearest_to[2]}" if nearest_to[0] > SOME else ""
        raise UsageError(f"{path} fits no model of `dehaze-bench ls models`: say which it is, model=NAME.{hint}")
    name, network = fitting[0]
    also = tuple(other for other, _ in fitting[1:])
    return Identified(name, also, PROTOCOLS.get(family_of(network)), count_params(network))


def _models(families: set[str]) -> list[list[str]]:
    """Return the models of each family, by where their configs say that the code is."""
    found: dict[str, list[str]] = {}
    for name in list_choices("model"):
        target = re.search(r"^_target_:\s*(\S+)", find_choice("model", name).read_text(encoding="utf-8"), re.MULTILINE)
        family = family_of(target[1]) if target else ""
        if family in families:
            found.setdefault(family, []).append(name)
    return list(found.values())


def _compare(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> tuple[str, float]:
    """Return why the tensors do not fit, or an empty text, and the share of names that agree."""
    try:
        ours = key_map(family_of(network))(tensors)
    except (KeyError, IndexError, ValueError, RuntimeError, TypeError, UsageError) as error:  # a map needs its names
        return f"{type(error).__name__}: {error}", 0.0
    state = network.state_dict()
    common = len(state.keys() & ours.keys()) / max(1, len(state.keys() | ours.keys()))
    try:
        check_fit(network, ours, source)
    except UsageError as error:
        return str(error), common
    return "", common
