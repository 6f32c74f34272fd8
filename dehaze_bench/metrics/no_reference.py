"""Scores of a picture alone (NIQE, BRISQUE, MUSIQ, ...) through pyiqa, which is not needed for anything else.

pyiqa (extra `[iqa]`) brings torchvision, and fetches the files of most scores from the net when one is first made. It
is imported when a protocol names such a score, never before. A torchvision that was built for another torch than the
one installed dies while it is imported; the error then says so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

_INSTALL = (
    "Install it beside the torch that is there: pip install 'dehaze-bench[iqa]', with the torchvision that belongs to "
    "that torch; or leave protocol.no_reference out"
)


def check_names(protocol: str, names: tuple[str, ...]) -> None:
    """Raise UsageError where pyiqa cannot be imported, or has no such score that needs no reference."""
    if not names:
        return
    known = _import().list_models(metric_mode="NR")
    for name in names:
        if name not in known:
            raise UsageError(
                f"protocol '{protocol}': pyiqa has no score '{name}' that needs no reference. {nearest(name, known)}"
            )


def score(name: str, image_CHW: Tensor) -> float:
    """Return the score of an RGB picture; values are clamped to [0, 1] as pyiqa expects."""
    with torch.inference_mode():
        value: Tensor = _make(name)(image_CHW.float().clamp(0, 1)[None].cpu())
    return float(value)


def is_higher_better(name: str) -> bool:
    """Whether a larger score means a better picture."""
    return not _make(name).lower_better


@lru_cache
def _make(name: str) -> Any:
    try:
        return _import().create_metric(name, device="cpu")
    except Exception as error:  # whatever a download or a file of weights provokes
        raise UsageError(
            f"pyiqa cannot make the score '{name}' ({type(error).__name__}: {error}). It fetches its files from the "
            "net when it is first used; fetch them once where there is a net, or leave protocol.no_reference out."
        ) from error


def _import() -> Any:
    try:
        import pyiqa
    except ImportError as error:
        raise UsageError(
            f"Scores without reference need pyiqa, which cannot be imported ({error}). {_INSTALL}."
        ) from error
    except (RuntimeError, OSError, AttributeError) as error:
        raise UsageError(
            f"Scores without reference need pyiqa, whose import fails ({type(error).__name__}: {error}), most likely "
            f"in a torchvision that was built for another torch than {torch.__version__}. {_INSTALL}."
        ) from error
    return pyiqa
