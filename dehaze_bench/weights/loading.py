"""Load published weights into our models and keep our own: strict, safe, with a record of what was loaded."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError
from dehaze_bench.weights.files import read_tensors
from dehaze_bench.weights.keymaps import NAMES, family_of, key_map


@dataclass(frozen=True)
class LoadInfo:
    """What was loaded: the sha256 of the file, how many tensors, and "safetensors" or "torch[/container]"."""

    sha256: str
    num_tensors: int
    source_format: str


def load_published(model: nn.Module, path: Path) -> LoadInfo:
    """Load the published weights at `path` into `model` through the key map of its family.

    Raises UsageError for a model without a key map, a file that cannot be read safely, and any tensor that is
    missing, left over or of another shape.
    """
    to_ours = key_map(family_of(model))
    tensors, source_format = read_tensors(path)
    load_strictly(model, to_ours(tensors), source=str(path))
    return LoadInfo(hash_file(path), len(tensors), source_format)


def load_encoder(encoder: nn.Module, head: Container[str], path: Path) -> LoadInfo:
    """Load the published weights at `path` into a backbone without its classifier, whose tensors are named `head`.

    The key map is that of the family, which is the module that the network is defined in. An encoder on the meta device
    is only compared. Raises UsageError as `load_published` does.
    """
    family = family_of(encoder)
    if family not in NAMES:
        raise UsageError(f"Published weights of backbone '{type(encoder).__name__}' are not known: leave them out.")
    tensors, source_format = read_tensors(path)
    fitting = {name: tensor for name, tensor in key_map(family)(tensors).items() if name not in head}
    check_fit(encoder, fitting, source=str(path))
    if not any(tensor.is_meta for tensor in encoder.state_dict().values()):
        encoder.load_state_dict(fitting, strict=True)
    return LoadInfo(hash_file(path), len(fitting), source_format)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors` into `model`; nothing is changed unless names and shapes all agree."""
    check_fit(model, tensors, source)
    model.load_state_dict(dict(tensors), strict=True)


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Compare names and shapes of `tensors` with those of `model`.

    Raises UsageError that names the first tensors at fault; `source` says in it where they came from.
    """
    ours = model.state_dict()
    missing = [name for name in ours if name not in tensors]
    left_over = [name for name in tensors if name not in ours]
    reshaped = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in ours.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    faults = [
        f"{kind} {_shorten(names)}"
        for kind, names in (("missing:", missing), ("not in the model:", left_over), ("shape:", reshaped))
        if names
    ]
    if faults:
        raise UsageError(
            f"{source} does not fit {type(model).__name__}; {'; '.join(faults)}. "
            f"Build the model at the size the weights were trained at, or give other weights."
        )


def save_own(model_state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write `model_state` to `path` as safetensors, atomically, with `metadata` in its header.

    Metadata maps strings to strings; the config is stored as JSON under "config".
    Tied tensors are written once per name: the format holds no references.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model_state.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})
        _share(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _share(path: Path) -> None:
    """Give a file the rights of any new file: safetensors keeps its own from everybody else."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def load_own(model: nn.Module, path: Path) -> dict[str, str]:
    """Load a file written by `save_own` into `model` and return its metadata."""
    metadata = read_metadata(path)
    tensors, _ = read_tensors(path)
    load_strictly(model, tensors, source=str(path))
    return metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file without reading its tensors."""
    if not path.is_file():
        raise UsageError(f"There is no weights file at {path}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as stream:
            return dict(stream.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a readable safetensors file ({error}): fetch it again.") from None


def _shorten(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
