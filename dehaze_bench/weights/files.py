"""Read a weights file without running code from it: safetensors, or torch files restricted to tensors.

A published file is a state dict, alone or inside a container. Known containers, in the order they are looked
for: `params_ema` and `params` (BasicSR; the averaged weights are the ones its papers evaluate), `state_dict`
(DehazeFormer, Lightning), `model` (FFA-Net, SFNet). The prefix `module.` of DataParallel is removed.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dehaze_bench.errors import UsageError

CONTAINERS = ("params_ema", "params", "state_dict", "model")

_REMEDY = (
    "Load it once where its own code is installed and save the state dict: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return ({name: tensor}, format) of the file at `path`; format is for example "torch/params_ema".

    Raises UsageError for a file that is missing, unreadable, holds pickled objects or holds no state dict.
    """
    if not path.is_file():
        raise UsageError(f"There is no weights file at {path}: give the path of a .safetensors or torch file.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), "safetensors"
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{path} is not a readable safetensors file ({error}): fetch it again.") from None
    content = _read_torch(path)
    tensors, container = _find_state_dict(content, path)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors, f"torch/{container}" if container else "torch"


def _read_torch(path: Path) -> object:
    # Training logs beside the weights are often NumPy scalars: plain numbers, safe to rebuild.
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype]
    numbers += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    try:
        with torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            message = f"{path} holds pickled Python objects, which would run code when loaded. {_REMEDY}"
        else:
            message = f"{path} is no weights file, or holds more than tensors: give a .safetensors or torch file."
        raise UsageError(message) from None
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        if "TorchScript" in str(error):
            raise UsageError(f"{path} is a TorchScript program, not a state dict. {_REMEDY}") from None
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UsageError(f"{path} cannot be read as a weights file ({reason}): fetch it again.") from None


def _find_state_dict(content: object, path: Path) -> tuple[dict[str, Tensor], str]:
    if isinstance(content, Mapping):
        for container in CONTAINERS:
            if _is_state_dict(content.get(container)):
                return dict(content[container]), container
        if _is_state_dict(content):
            return dict(content), ""
        found = "entries " + ", ".join(repr(str(name)) for name in list(content)[:8])
    else:
        found = f"a {type(content).__name__}"
    raise UsageError(
        f"{path} holds {found}, but no state dict, neither alone nor under {', '.join(CONTAINERS)}. {_REMEDY}"
    )


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )
