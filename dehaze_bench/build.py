"""Composition root: config to objects. The only caller of `hydra.utils.instantiate`; below it arguments are plain."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from dehaze_bench import config, targets
from dehaze_bench.budgets import solve_width
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.models.pyramid import make_backbone
from dehaze_bench.scans import Scan
from dehaze_bench.weights import load_encoder as load_encoder_weights

IMAGE_AXES, CLIP_AXES = 2, 3
_T = TypeVar("_T")


def check(cfg: DictConfig) -> None:
    """Raise one named `UsageError` for a config that cannot run: keys, values, compatibility, a meta forward pass."""
    config.check(cfg)
    model_class = targets.locate(str(cfg.model["_target_"]), "model")
    if "_target_" in cfg.scan and "scan" not in inspect.signature(model_class).parameters:
        raise UsageError(
            f"Model '{model_class.__name__}' takes no scan, but scan={cfg.scan.name} was asked for. Leave scan "
            f"out, or choose a model that scans, for example unet, pyramid or mambair_light."
        )
    found = scan(cfg)
    axes = CLIP_AXES if getattr(model_class, "takes_clips", False) else IMAGE_AXES
    if found is not None and found.num_routes and axes not in found.axes:  # counting names an order's own faults
        raise UsageError(
            f"Scan '{found.name}' walks over volumes (frames, rows, columns) and a picture has rows and columns only: "
            "choose a scan over the plane, for example raster, cross or hilbert, or model=unet_video."
            if axes == IMAGE_AXES
            else f"Scan '{found.name}' walks over rows and columns, but '{model_class.__name__}' over frames too: "
            "choose a scan over volumes, for example spatiotemporal, hilbert_3d or mamba_nd_3d, or model=unet."
        )
    model = meta_model(cfg)
    load_encoder(cfg, model)
    if not trainable(model):
        return
    size = cfg.train.crop
    multiple = int(getattr(model, "multiple", 1))
    if size % multiple:
        low = size // multiple * multiple
        raise UsageError(
            f"train.crop={size} is not a multiple of {multiple}, which the model needs: use "
            f"{low or multiple} or {low + multiple}."
        )
    try:
        image = torch.empty(cfg.train.batch // cfg.train.accumulate, 3, size, size, device="meta")
        out = model(image)
        out = out if isinstance(out, Tensor) else out[0]  # the full size first
    except BenchError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"The model does not accept a crop of {size} pixels: {error}") from error
    if out.shape != image.shape:
        raise UsageError(f"The model turns an image of shape {tuple(image.shape)} into {tuple(out.shape)}")


def check_all(cfg: DictConfig) -> None:
    """Check as `check` does, and that device, data, protocol and the rest can be made."""
    check(cfg)
    device(cfg)
    for make in (protocol, testset, schedule, loss):
        make(cfg)
    network = meta_model(cfg)
    if trainable(network):
        dataset(cfg)
        optimizer(cfg, network)


def trainable(model: nn.Module) -> bool:
    """Whether there is something to learn (a prior and the identity have nothing)."""
    return bool(getattr(model, "trainable", True))


def model(cfg: DictConfig) -> nn.Module:
    """Return the network on the current default device, its width solved where `model.match` asks for it."""
    return _model_maker(cfg)()


def meta_model(cfg: DictConfig) -> nn.Module:
    """Return the network without memory for its tensors: enough to count and to check shapes."""
    make = _model_maker(cfg)
    with torch.device("meta"):
        return make()


def load_encoder(cfg: DictConfig, network: nn.Module) -> None:
    """Load the published weights that `model.encoder_weights` names into the backbone of a pyramid, all but its head.

    On the meta device they are only compared. Raises `UsageError` for a file that does not fit.
    """
    path = cfg.model.get("encoder_weights")
    if path is None:
        return
    if "backbone" not in cfg.model:
        raise UsageError(f"model.encoder_weights={path} is for model=pyramid, which has an encoder; leave it out.")
    with torch.device("meta"):
        whole = from_blueprint(blueprint(cfg, backbone=True))
    encoder = network.get_submodule("backbone")
    load_encoder_weights(encoder, set(whole.state_dict()) - set(encoder.state_dict()), Path(path))


def blueprint(cfg: DictConfig, backbone: bool = False) -> dict[str, Any]:
    """Return what the network is made of as plain data, from which another process can make it.

    `backbone` means that of the pyramid alone, with its classifier.
    """
    node = cfg.model.backbone if backbone else cfg.model
    return {key: OmegaConf.to_container(part, resolve=True) for key, part in (("model", node), ("scan", cfg.scan))}


def from_blueprint(plan: Mapping[str, Any]) -> nn.Module:
    """Return the network of a `blueprint` on the current default device."""
    cfg = OmegaConf.create(dict(plan))
    if not cfg.model.get("_partial_", False):
        return model(cfg)
    make: Callable[..., nn.Module] = _make(cfg.model, "model.backbone")
    return _call("model.backbone", lambda: make_backbone(make, scan(cfg)))


def scan(cfg: DictConfig) -> Scan | None:
    """Return the scan, or None for the one that a network was published with."""
    return _make(cfg.scan, "scan") if "_target_" in cfg.scan else None


def optimizer(cfg: DictConfig, network: nn.Module) -> Optimizer:
    """Return the optimiser; vectors, and what a module lists in `no_weight_decay()`, take no weight decay."""
    exempt = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        for name in getattr(module, "no_weight_decay", tuple)()
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (plain if name in exempt or parameter.ndim <= 1 else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    make: Callable[..., Optimizer] = _make(cfg.optimizer, "optimizer")
    return _call("optimizer", partial(make, [group for group in groups if group["params"]]))


def schedule(cfg: DictConfig) -> Callable[[int, int], float]:
    """Return the factor on the learning rate as a function of (step, steps)."""
    result: Callable[[int, int], float] = _make(cfg.schedule, "schedule")
    return result


def loss(cfg: DictConfig) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the loss as a function of (restored, clear, hazy)."""
    result: Callable[[Tensor, Tensor, Tensor], Tensor] = _make(_without(cfg.loss, "loss"), "loss")
    return result


def dataset(cfg: DictConfig) -> Any:
    """Return the training set."""
    return _make(cfg.dataset, "dataset")


def testset(cfg: DictConfig) -> Any:
    """Return the test set."""
    return _make(cfg.testset, "testset")


def protocol(cfg: DictConfig) -> Any:
    """Return the protocol."""
    return _make(cfg.protocol, "protocol")


def device(cfg: DictConfig) -> torch.device:
    """Return the device that `runtime.device` names; `auto` is CUDA where there is one."""
    name = str(cfg.runtime.device)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"runtime.device={name} is no device: use auto, cpu, cuda or cuda:N.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"runtime.device={name}, but this torch sees no GPU: use runtime.device=cpu.")
    return found


def _without(node: DictConfig, group: str) -> DictConfig:
    """Leave out what build.py reads and the class does not."""
    kept = {key: value for key, value in node.items() if key not in config.BUILD_KEYS[group]}
    return OmegaConf.create(kept)


def _make(node: DictConfig, path: str) -> Any:
    targets.locate_all(OmegaConf.to_container(node, resolve=True), path)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, BenchError):
            raise error.__cause__ from error
        cause = error.__cause__ if error.__cause__ is not None else error
        raise UsageError(f"'{path}' cannot be built: {cause}") from error


def _call(path: str, make: Callable[[], _T]) -> _T:
    """Return what `make` returns; what it refuses is a fault of the config at `path`."""
    try:
        return make()
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f"'{path}' cannot be built: {str(error).splitlines()[0]}") from error


def _model_maker(cfg: DictConfig) -> Callable[[], nn.Module]:
    plain = OmegaConf.to_container(cfg.model, resolve=True)
    assert isinstance(plain, dict)
    node: dict[str, Any] = {str(key): value for key, value in plain.items()}
    match = {str(k): v for k, v in (node.pop("match", None) or {}).items() if v is not None}
    for key in config.BUILD_KEYS["model"]:
        node.pop(key, None)
    supplied = {}
    found = scan(cfg)
    if found is not None:
        supplied["scan"] = found
    if match:
        if "width" not in node:
            raise UsageError(f"model.match needs a network with a width, which {node['_target_']} has not.")
        asked = (node, OmegaConf.to_container(cfg.scan, resolve=True), match)
        node["width"] = solve_width(
            lambda width: _make_model({**node, "width": width}, supplied),
            match,
            repr(asked) if targets.are_own(asked) else None,
        )
    return partial(_make_model, node, supplied)


def _make_model(node: dict[str, Any], supplied: dict[str, Any]) -> nn.Module:
    make: Callable[..., nn.Module] = _make(OmegaConf.create({**node, "_partial_": True}), "model")
    return _call("model", partial(make, **supplied))
