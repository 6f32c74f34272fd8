"""Number formats: recurrences stay float32 under autocast, on every mixer; what is no format of a device is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.engine import precision
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import list_choices
from tests import tiny

MIXERS = sorted(list_choices("model/mixer"))
CPU = torch.device("cpu")


class Recurrences(TorchDispatchMode):
    """Note the formats of what goes into and comes out of each recurrence: our operators, and torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def watch(self, model: torch.nn.Module) -> None:
        for layer in model.modules():
            if isinstance(layer, torch.nn.RNNBase):  # seen by the dispatcher only in parts
                layer.register_forward_hook(lambda _, args, out: self.seen.update({args[0].dtype, out[1].dtype}))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.name().startswith("dehaze_bench::"):
            flat = [*args, *(kwargs or {}).values(), *(out if isinstance(out, (tuple, list)) else [out])]
            flat += [item for each in flat if isinstance(each, (tuple, list)) for item in each]
            self.seen |= {x.dtype for x in flat if isinstance(x, Tensor) and x.is_floating_point()}
        return out


def network(mixer: str) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = compose_run([f"model/mixer={mixer}", "scan=raster", *tiny.NETWORK[2:], "track=off"]).cfg
    return build.model(cfg)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_recurrences_stay_float32_under_autocast(mixer: str, kind: str) -> None:
    model, image = network(mixer), torch.rand(1, 3, 16, 16)
    whole = model(image)
    recurrences = Recurrences()
    recurrences.watch(model)
    with recurrences, precision.autocast(CPU, kind):
        half = model(image)
    assert recurrences.seen <= {torch.float32, torch.float64}
    if mixer not in ("attention", "conv", "graph"):
        assert recurrences.seen, "no recurrence was seen: the test looks at the wrong operators"
    half.float().mean().backward()
    assert all(
        torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None
    )
    torch.testing.assert_close(half.float(), whole, rtol=0.1, atol=0.05)


def test_the_reference_keeps_states_too() -> None:
    """One recurrence by hand: a decay of nearly 1 over many steps, which half precision would round to 1 or forget."""
    from dehaze_bench.ops.selective_scan import selective_scan

    u, delta = torch.ones(1, 512, 1), torch.full((1, 512, 1), 1e-3)
    A, B, C = -torch.ones(1, 1), torch.ones(1, 512, 1), torch.ones(1, 512, 1)
    for backend in ("reference", "numba"):
        whole = selective_scan(u, delta, A, B, C, backend=backend)
        with precision.autocast(CPU, "bf16"):
            half = selective_scan(u.bfloat16(), delta, A, B.bfloat16(), C.bfloat16(), backend=backend)
        torch.testing.assert_close(half.float(), whole.float(), rtol=1e-2, atol=0)


def test_tf32_is_refused_off_a_gpu() -> None:
    with pytest.raises(UsageError, match=r"precision=tf32 is a format of NVIDIA GPUs.*use fp32"):
        precision.settle(CPU, "tf32", False)


def test_float32_products_are_float32() -> None:
    precision.settle(CPU, "fp32", False)
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
