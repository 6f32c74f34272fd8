"""What a network costs: parameters, and multiply-accumulates (MACs) by the rules of the papers.

"FLOPs" in the tables of the field are multiply-accumulates of matrix products and convolutions, plus whatever else a
group's counter added: norms, the operations of the recurrence, the maps of a branch for each branch or once. The rules
are data here, so that a table can print our count and, beside it, the one that the published figure was made with.

Letters in the rules: L steps of a route, D channels, N states.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops import selective_scan as _registers_the_operator  # noqa: F401

# Where multiply-accumulates are counted: the size of the literature's dehazing tables.
MACS_SIZE = (256, 256)
OWN = "ours"


@runtime_checkable
class Branches(Protocol):
    """A layer with a branch per route between one map in and one map out (nn/branched.py)."""

    num_routes: int
    in_proj: nn.Module
    out_proj: nn.Module


@runtime_checkable
class ReadsInPlace(Protocol):
    """A layer that projects tokens once where the published code projects every step of a route (nn/ss2d.py)."""

    def saved_macs(self, routes: Any) -> int: ...


@dataclass(frozen=True)
class Rule:
    """A way to count. Matrix products and convolutions always count one multiply-accumulate as one.

    - `scan`: operations of a selective scan per step, channel and state, and per step and channel; None is what our
      operators state (9 and 0).
    - `recurrences`: whether other recurrences add what their operators state.
    - `elements`: what a module adds per element of its input, by the name of its class, with a gain and without.
    - `branches`: whether what lies inside a layer with a branch per route (convolution, maps, attention) counts for
      "each" branch, "once", or for "none", as where a fused operator hides it.
    - `gathered`: maps count for every step of a route, also for padding, where ours project each token once.
    """

    description: str
    scan: tuple[float, float] | None = None
    recurrences: bool = True
    elements: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    branches: str = "each"
    gathered: bool = False


_LAYER_NORM = {"LayerNorm": (5.0, 4.0), "LayerNorm2d": (5.0, 4.0)}

RULES: dict[str, Rule] = {
    OWN: Rule("what our code spends: dense MACs, and for recurrences the operations that our operators state"),
    "dense": Rule("matrix products and convolutions alone", scan=(0, 0), recurrences=False),
    "mamba": Rule("dense MACs, and per scan 9 L D N + 2 L D with the gate (state-spaces/mamba issue 110)", scan=(9, 2)),
    "fvcore": Rule(
        "fvcore: dense MACs, per element 5 for a LayerNorm, 2 for a BatchNorm in evaluation, 1 for global pooling",
        elements={**_LAYER_NORM, "BatchNorm2d": (2.0, 1.0), "AdaptiveAvgPool2d": (1.0, 1.0)},
    ),
    "vmamba": Rule(
        "VMamba and its descendants, PlainMamba: dense MACs, 5 per element of a LayerNorm, 9 L D N + L D per scan",
        scan=(9, 1),
        elements=_LAYER_NORM,
        gathered=True,
    ),
    "vim": Rule(
        "Vim: dense MACs with those of a branch counted once, not per direction, and 5 L D N + 2 L D per scan",
        scan=(5, 2),
        branches="once",
    ),
    "localvim": Rule(
        "LocalVim: as vim, and 1 per element of a norm",
        scan=(5, 2),
        elements={"RMSNorm": (1.0, 1.0)},
        branches="once",
    ),
    "videomamba": Rule(
        "VideoMamba: dense MACs outside of the fused operator: of a layer only its maps in and out",
        scan=(0, 0),
        branches="none",
    ),
    "vrwkv": Rule("Vision-RWKV: dense MACs and 29 L D per bi-WKV"),
}


def find_rule(name: str) -> Rule:
    """Return a rule; raises `UsageError` naming the nearest."""
    if name not in RULES:
        raise UsageError(f"Unknown counting rule '{name}'. {nearest(name, RULES)}")
    return RULES[name]


def rule_of(network: nn.Module) -> str:
    """Return the name of the rule that a network's paper counted with: its `counting`, or that of its backbone."""
    owner = network if hasattr(network, "counting") else getattr(network, "backbone", network)
    return str(getattr(owner, "counting", OWN))


def count_params(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, size: tuple[int, int] = MACS_SIZE, rule: str = OWN) -> float:
    """Return multiply-accumulates of one forward pass over one image, by a rule; on the meta device this is quick.

    Our own operators count as whole operations, as they stand: 9 B L D N for the selective scan is the figure that
    VMamba's tables add to the multiply-accumulates of the dense layers.
    """
    found = find_rule(rule)
    extra: Counter[str] = Counter()
    training = network.training
    image = torch.empty(1, 3, *size, device=next(network.parameters()).device)
    counter = FlopCounterMode(display=False, custom_mapping=_formulas(found))
    try:
        with _hooks(network, found, extra), counter, torch.no_grad():
            network.eval()(image)
    finally:
        network.train(training)
    counts = counter.get_flop_counts()
    total = _dense(counts, "Global") + _operations(counts, found) + sum(extra.values())
    return total - _inside_branches(network, counts, found)


def _formulas(rule: Rule) -> dict[Any, Callable[..., int]]:
    """Return what the selective scan counts by a rule, for `FlopCounterMode`."""
    if rule.scan is None:
        return {}
    per_state, per_channel = rule.scan

    def count(u: Any, delta: Any, A: Any, *rest: Any, **options: Any) -> int:
        batch, num_tokens, num_channels = u
        num_routes, _, num_states = A
        index = rest[5]
        num_steps = num_tokens if index is None else index[1]
        return int(batch * num_routes * num_steps * num_channels * (per_state * num_states + per_channel))

    return {torch.ops.dehaze_bench.selective_scan: count}


@contextmanager
def _hooks(network: nn.Module, rule: Rule, extra: Counter[str]) -> Iterator[None]:
    """Add to `extra` what modules count beyond dense layers and recurrences."""

    def elements(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        affine, plain = rule.elements[type(module).__name__]
        factor = affine if getattr(module, "weight", None) is not None else plain
        extra["elements"] += int(factor * inputs[0].numel())

    def gathered(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, ReadsInPlace)
        if "scatter" not in inputs[2:]:  # routes that share the tokens out are gathered by our layer too
            extra["gathered"] += module.saved_macs(inputs[1])

    handles: list[RemovableHandle] = []
    for module in network.modules():
        if type(module).__name__ in rule.elements:
            handles.append(module.register_forward_hook(elements))
        if rule.gathered and isinstance(module, ReadsInPlace):
            handles.append(module.register_forward_hook(gathered))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_ours(op: Any) -> bool:
    return str(op).startswith("dehaze_bench.")


def _dense(counts: Mapping[str, Mapping[Any, int]], where: str) -> float:
    return sum(flops for op, flops in counts.get(where, {}).items() if not _is_ours(op)) / 2


def _operations(counts: Mapping[str, Mapping[Any, int]], rule: Rule) -> float:
    """Return what our operators add."""
    ours = {str(op): flops for op, flops in counts.get("Global", {}).items() if _is_ours(op)}
    return sum(flops for op, flops in ours.items() if rule.recurrences or "selective_scan" in op)


def _inside_branches(network: nn.Module, counts: Mapping[str, Mapping[Any, int]], rule: Rule) -> float:
    """Return the dense MACs of branches that a rule leaves out."""
    if rule.branches == "each":
        return 0.0
    root, left_out = type(network).__name__, 0.0
    for name, module in network.named_modules(prefix=root):
        if isinstance(module, Branches):
            inside = _dense(counts, name) - _dense(counts, f"{name}.in_proj") - _dense(counts, f"{name}.out_proj")
            left_out += inside * (1 - 1 / module.num_routes if rule.branches == "once" else 1)
    return left_out
