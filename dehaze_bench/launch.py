"""Rows of overrides, through any Hydra launcher, to one status per row. A failing row never stops the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from dehaze_bench import config
from dehaze_bench.compose import Composed, compose_run
from dehaze_bench.errors import BenchError, Requeue, UsageError
from dehaze_bench.registry import conf_dirs

# Set by the first row of this process that a signal stopped: the rows after it are not started.
_stopped: list[str] = []


@dataclass(frozen=True)
class Status:
    """What became of one row: state is "done", "skipped" (was done before), "failed" or "requeue"."""

    label: str
    run: str
    state: str
    seconds: float
    message: str = ""
    exit_code: int = 0


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (overrides of the launcher, overrides of the runs)."""
    launcher = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
    return launcher, [text for text in overrides if text not in launcher]


def launch(labels: Sequence[str], rows: Sequence[Sequence[str]], launcher: Sequence[str] = ()) -> list[Status]:
    """Run every row and return its status, in order; raises `UsageError` before any if one cannot be composed."""
    for label, row in zip(labels, rows, strict=True):
        try:
            config.check(compose_run(row).cfg)
        except UsageError as error:
            raise UsageError(f"Row '{label}': {error}") from error
    search_path = create_automatic_config_search_path(None, None, str(conf_dirs()[-1]))
    loader = ConfigLoaderImpl(config_search_path=search_path)
    try:
        hydra_cfg = loader.load_configuration("config", list(launcher), run_mode=RunMode.MULTIRUN)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        plugin = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_row, config=hydra_cfg)
    except (HydraException, ImportError) as error:
        raise UsageError(
            f"The launcher cannot be made: {str(error).splitlines()[0]}. Launchers beyond 'basic' need the extra "
            f"'sweep': pip install 'dehaze-bench[sweep]'."
        ) from error
    GlobalHydra.instance().clear()
    _stopped.clear()
    returns = plugin.launch([list(row) for row in rows], initial_job_idx=0)
    return [_status(label, found) for label, found in zip(labels, returns, strict=True)]


def run_row(cfg: DictConfig) -> dict[str, Any]:
    """Do one composed run inside a launcher and return its status as plain data; never raises for a failed job."""
    from dehaze_bench import run

    choices = {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items()}
    overrides = tuple(HydraConfig.get().overrides.task)
    composed = Composed(cfg, {k: v for k, v in choices.items() if not k.startswith("hydra/")}, overrides)
    started = time.perf_counter()
    name, state, message, code = "", "failed", "", 1
    try:
        name = run.name_of(composed)
        if _stopped:
            raise Requeue(f"Not started: {_stopped[0]}")
        outcome = run.execute(composed)
        state, code = ("skipped" if outcome.skipped else "done"), 0
    except Requeue as error:
        state, message, code = "requeue", str(error), error.exit_code
        _stopped.append(message)
    except BenchError as error:
        message, code = str(error), 1
    except Exception as error:  # a bug outside the run itself is that row's failure, too
        message = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    return asdict(Status("", name, state, time.perf_counter() - started, message, code))


def _status(label: str, found: JobReturn) -> Status:
    try:
        value = found.return_value
    except Exception as error:  # the launcher lost the job: killed, timed out, not picklable
        return Status(label, "", "failed", 0.0, f"the launcher reports {type(error).__name__}: {error}", 1)
    return Status(**{**value, "label": label})
