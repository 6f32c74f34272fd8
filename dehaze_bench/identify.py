"""What a published file of weights is: the model of conf/model whose tensors it holds, by names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.registry import list_choices
from dehaze_bench.weights.files import read_tensors
from dehaze_bench.weights.keymaps import NAMES, family_of, key_map
from dehaze_bench.weights.loading import check_fit
from dehaze_bench.weights.protocols import PROTOCOLS


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
    names = [name for name, text in list_choices("model").items() if not text.startswith("Restorer from any backbone")]
    fitting: list[tuple[str, nn.Module]] = []
    nearest_to = (0.0, "", "")
    for name, network in _networks(names):
        ours = _renamed(network, tensors)
        state = network.state_dict()
        if ours is None or not state:
            continue
        common = len(state.keys() & ours.keys()) / len(state.keys() | ours.keys())
        try:
            check_fit(network, ours, source=str(path))
            fitting.append((name, network))
        except UsageError as error:
            nearest_to = max(nearest_to, (common, name, str(error)))
    if not fitting:
        hint = f" The nearest is {nearest_to[1]}: {nearest_to[2]}" if nearest_to[0] > 0.2 else ""
        raise UsageError(f"{path} fits no model of `dehaze-bench ls models`: say which it is, model=NAME.{hint}")
    name, network = fitting[0]
    also = tuple(other for other, _ in fitting[1:])
    return Identified(name, also, PROTOCOLS.get(family_of(network)), count_params(network))


def _networks(names: Iterable[str]) -> Iterable[tuple[str, nn.Module]]:
    for name in names:
        try:
            network = build.meta_model(compose_run([f"model={name}"]).cfg)
        except BenchError:  # one of the user's own that is not complete yet
            continue
        if family_of(network) in NAMES:
            yield name, network


def _renamed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    try:
        return key_map(family_of(network))(tensors)
    except (KeyError, IndexError, ValueError, RuntimeError, TypeError, UsageError):  # a map may need its own names
        return None
