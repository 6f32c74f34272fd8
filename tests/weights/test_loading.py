"""Weights files: containers, safety, strict names and shapes, our own files with metadata."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.aodnet import AODNet
from dehaze_bench.weights import load_own, load_published, load_strictly, read_metadata, save_own
from dehaze_bench.weights.files import read_tensors
from dehaze_bench.weights.keymaps import NAMES, key_map


def published_state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {f"e_{name}": torch.randn_like(tensor) for name, tensor in AODNet().state_dict().items()}


def assert_loaded(model: AODNet, published: dict[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, published[f"e_{name}"])


CONTAINERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "torch": lambda state: state,
    "torch/model": lambda state: {"model": state, "psnrs": [np.float64(21.5)], "step": np.int64(4)},
    "torch/state_dict": lambda state: {
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "torch/params": lambda state: {"params": state},
    "torch/params_ema": lambda state: {
        "params": {name: torch.zeros_like(tensor) for name, tensor in state.items()},
        "params_ema": state,
    },
}


@pytest.mark.parametrize("source_format", CONTAINERS)
def test_every_container_is_unwrapped(tmp_path: Path, source_format: str) -> None:
    published = published_state()
    path = tmp_path / "weights.pth"
    torch.save(CONTAINERS[source_format](published), path)
    model = AODNet()
    info = load_published(model, path)
    assert_loaded(model, published)
    assert (info.num_tensors, info.source_format, info.sha256) == (10, source_format, hash_file(path))


def test_safetensors_and_the_old_torch_format(tmp_path: Path) -> None:
    published = published_state()
    save_file(published, tmp_path / "a.safetensors")
    torch.save(published, tmp_path / "b.pk", _use_new_zipfile_serialization=False)
    for path, source_format in ((tmp_path / "a.safetensors", "safetensors"), (tmp_path / "b.pk", "torch")):
        model = AODNet()
        assert load_published(model, path).source_format == source_format
        assert_loaded(model, published)


class Payload:
    """An object whose unpickling would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_no_code_of_a_file_runs(tmp_path: Path, protocol: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    if protocol == "torch":
        torch.save({"state_dict": published_state(), "extra": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(UsageError, match=r"evil\.pth"):
        load_published(AODNet(), path)
    assert not trace.exists()


def test_a_pickled_module_says_the_way_out(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UsageError, match=r"pickled Python objects.*save_file"):
        read_tensors(tmp_path / "module.pth")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04broken"])
def test_an_unreadable_file_is_one_message(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}.*(fetch it again|give a)"):
        read_tensors(path)


def test_files_without_a_state_dict(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "losses": [0.1]}, tmp_path / "log.pth")
    with pytest.raises(UsageError, match=r"'epoch', 'losses'.*no state dict"):
        read_tensors(tmp_path / "log.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UsageError, match="a Tensor"):
        read_tensors(tmp_path / "tensor.pth")
    with pytest.raises(UsageError, match="no weights file"):
        read_tensors(tmp_path / "absent.pth")


def test_an_unknown_family_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'aodnets'.*Did you mean 'aodnet'"):
        key_map("aodnets")
    with pytest.raises(UsageError, match="Published weights of 'linear' are not known"):
        load_published(nn.Linear(2, 2), tmp_path / "x.pth")


@pytest.mark.parametrize("name", NAMES)
def test_every_family_has_its_map(name: str) -> None:
    assert callable(key_map(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv3.weight"), r"missing: conv3\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), r"not in the model: extra"),
        (
            lambda state: state.update({"conv1.bias": torch.zeros(4)}),
            r"conv1\.bias is \(4,\) instead of \(3,\)",
        ),
    ],
)
def test_faults_are_named_and_nothing_is_loaded(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    model = AODNet()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    change(state)
    with pytest.raises(UsageError, match=message):
        load_strictly(model, state, source="test")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_own_weights_return_with_their_config(tmp_path: Path) -> None:
    path = tmp_path / "run" / "best.safetensors"
    model = AODNet()
    save_own(model.state_dict(), path, {"config": json.dumps({"model": "aodnet"})})
    other = AODNet()
    assert json.loads(load_own(other, path)["config"]) == {"model": "aodnet"}
    assert json.loads(read_metadata(path)["config"]) == {"model": "aodnet"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert [entry.name for entry in path.parent.iterdir()] == ["best.safetensors"]


def test_tied_and_strided_tensors_are_kept(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    save_own({"a": tied, "b": tied, "c": tied.T}, tmp_path / "w.safetensors", {})
    tensors, _ = read_tensors(tmp_path / "w.safetensors")
    assert torch.equal(tensors["b"], tied)
    assert torch.equal(tensors["c"], tied.T)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_own({"a": torch.ones(2)}, path, {})
    with pytest.raises(TypeError):
        save_own({"a": torch.zeros(2)}, path, {"config": 3})  # type: ignore[dict-item]
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.safetensors"]


def test_published_aodnet_weights(shared: Path) -> None:
    path = shared / "samples" / "weights" / "aodnet" / "dehazer.pth"
    info = load_published(AODNet(), path)
    assert info.sha256 == "79409b63bf019d6c7ca6903883a8635d5723c25406f74903751bd7459462a53b"
    assert info.num_tensors == 10
