"""The verb `export`: a trained network as one file for others, proved by running that file.

Three formats by the ending of the file: `.safetensors` holds the weights with the config inside, `.pt2` is a program of
torch.export, `.onnx` a graph for ONNX runtimes. The file is written under a temporary name, read back, run, and
compared with the network before it gets its name.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_bench import arguments, build, config, source
from dehaze_bench.arguments import Arguments
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import JobError, UsageError, nearest
from dehaze_bench.infer.pad import evaluating, multiple_of
from dehaze_bench.weights import load_own, save_own

FORMATS = (".safetensors", ".pt2", ".onnx")
TOLERANCE = 1e-4  # of values in [0, 1]: other kernels add in another order


def run(argv: Arguments) -> int:
    """Export the network of a run or of a file of weights; 0 once the file gave what the network gives."""
    run_id, argv = arguments.assignment(argv, "run")
    size_text, argv = arguments.assignment(argv, "size")
    places = [text for text in argv if "=" not in text and not text.startswith(("-", "~"))]
    overrides = [text for text in argv if text not in places]
    arguments.only_overrides("export", overrides)
    if len(places) != 1:
        raise UsageError("export needs one file to write: dehaze-bench export run=ID network.onnx")
    out = Path(places[0])
    if out.suffix not in FORMATS:
        raise UsageError(f"'{out}' does not say the format by its ending. {nearest(out.suffix, FORMATS)}")
    composed = compose_run(overrides) if run_id is None else source.compose_for(overrides, run_id)
    found = source.load(composed, run_id)
    if not build.trainable(found.network):
        raise UsageError("This model has no weights: there is nothing to export.")
    network = found.network.to("cpu")
    size = arguments.integer(size_text, "size") or 256
    size = -(-size // multiple_of(network)) * multiple_of(network)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        with evaluating(network), torch.no_grad():
            if out.suffix == ".safetensors":
                said, error = _safetensors(found, network, partial, size)
            else:
                said, error = _program(network, partial, size)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{out} ({said}): run again it differs by at most {error:.1e}")
    return 0


def _safetensors(found: source.Source, network: nn.Module, path: Path, size: int) -> tuple[str, float]:
    metadata = {"config": json.dumps(config.scientific(found.cfg)), "step": str(found.step or 0)}
    save_own(network.state_dict(), path, metadata)
    again = build.model(found.cfg)
    load_own(again, path)
    return "weights with their config", _compare(network, again.eval(), _sizes(network, size))


def _program(network: nn.Module, path: Path, size: int) -> tuple[str, float]:
    """Export for any size where the network allows it, else for `size` alone; return which, and the difference."""
    save = _save_onnx if path.suffix == ".onnx" else _save_pt2
    multiple, sizes = multiple_of(network), _sizes(network, size)
    example = torch.rand(1, 3, size, size)
    for height, width in sizes:
        network(torch.rand(1, 3, height, width))  # orders that a network keeps must not be made while it is traced
    rows, columns = (torch.export.Dim(name, min=2, max=1024) for name in ("height", "width"))
    attempts = (("any size", {2: multiple * rows, 3: multiple * columns}, sizes), (f"{size} x {size}", None, sizes[:1]))
    reason = ""
    for said, shapes, compared in attempts:
        try:
            with _quiet():
                again = save(network, example, shapes, path)
                return said, _compare(network, again, compared)
        except UsageError:
            raise
        except Exception as error:  # torch raises many kinds for what it cannot trace, and for sizes it fixed silently
            root = error
            while isinstance(root.__cause__, Exception):
                root = root.__cause__
            reason = f"{type(root).__name__}: {(str(root).strip() or 'no message').splitlines()[0]}"
    raise JobError(
        f"{type(network).__name__} cannot be exported to {path.suffix} ({reason}). Its weights can: give a file that "
        f"ends in .safetensors."
    )


def _sizes(network: nn.Module, size: int) -> list[tuple[int, int]]:
    multiple = multiple_of(network)
    return [(size, size), (size + multiple, size + 2 * multiple)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pages of logs of the tracers away; what matters is raised."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _save_pt2(network: nn.Module, example: Tensor, shapes: Any, path: Path) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(network, (example,), dynamic_shapes=(shapes,) if shapes else None)
    torch.export.save(program, path)
    again: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return again


def _save_onnx(network: nn.Module, example: Tensor, shapes: Any, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UsageError(
            f"Export to .onnx needs the extra 'onnx' ({error}): pip install 'dehaze-bench[onnx]'."
        ) from error
    torch.onnx.export(
        network, (example,), path, dynamo=True, dynamic_shapes=(shapes,) if shapes else None, external_data=False,
        input_names=["hazy"], output_names=["restored"], verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda hazy_BCHW: torch.from_numpy(session.run(None, {name: hazy_BCHW.numpy()})[0])


def _compare(network: nn.Module, again: Callable[[Tensor], Tensor], sizes: Sequence[tuple[int, int]]) -> float:
    """Return the largest difference on new images of the given sizes; raises `JobError` where it is too large."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for height, width in sizes:
        hazy_BCHW = torch.rand(1, 3, height, width, generator=generator)
        worst = max(worst, float((network(hazy_BCHW) - again(hazy_BCHW)).abs().max()))
        if not worst <= TOLERANCE:
            raise JobError(f"the file gives other values at {height} x {width}, by up to {worst:.1e}")
    return worst
