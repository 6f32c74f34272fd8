"""Rows of overrides, through any Hydra launcher, to one status per row. A failing row never stops the others."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dehaze_bench import config, row, submission
from dehaze_bench.compose import Composed, compose_run, identify_run, parse
from dehaze_bench.errors import Requeue, UsageError, nearest
from dehaze_bench.registry import conf_dirs
from dehaze_bench.results.store import Store
from dehaze_bench.row import Status

# How often rows are launched again that a launcher lost together with its pool of workers.
ATTEMPTS = 3
# How long a row whose worker died may take to save and let go of its run directory.
RELEASE_S = 90.0
# How long rows are checked without a word.
PATIENCE = 10.0


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (overrides of the launcher, overrides of the runs)."""
    launcher = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return launcher, [text for text in overrides if text not in launcher]


def label_rows(overrides: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a label for each row of a multirun: the overrides that differ between rows, in the order given."""
    varying = {override.get_key_element() for override in parse(overrides) if override.is_sweep_override()}
    labels = []
    for texts in rows:
        own = [text for text in texts if text.partition("=")[0] in varying]
        labels.append(", ".join(own or texts) or "defaults")
    return labels


def launch(labels: Sequence[str], rows: Sequence[Sequence[str]], launcher: Sequence[str] = ()) -> list[Status]:
    """Run every row and return its status, in order; raises `UsageError` before any if one cannot be composed."""
    composed: list[Composed] = []
    said = time.monotonic()
    for label, overrides in zip(labels, rows, strict=True):
        if time.monotonic() - said > PATIENCE:  # widths for budgets take seconds where they are not known yet
            said = time.monotonic()
            print(f"checked {len(composed)} of {len(rows)} rows", file=sys.stderr, flush=True)
        composed.append(_checked(label, overrides))
    plugin = _plugin(launcher, Path(composed[0].cfg.paths.runs))
    row.stopped.clear()
    if submission.is_submitit(plugin):
        found = submission.launch(plugin, rows)
        found += [_status("requeue", "Not started.") for _ in rows[len(found) :]]
    else:
        found = _through_hydra(plugin, rows, composed)
    return [Status(**{**value, "label": label}) for label, value in zip(labels, found, strict=True)]


def check_launcher(launcher: Sequence[str]) -> None:
    """Raise `UsageError` where the launcher, or a key of it, does not exist or cannot be made."""
    if launcher:
        _plugin(launcher, Path("."))


def _checked(label: str, overrides: Sequence[str]) -> Composed:
    try:
        composed = compose_run(overrides)
        config.check(composed.cfg)
        if any(value is not None for value in (composed.cfg.model.get("match") or {}).values()):
            from dehaze_bench import build  # torch, which nothing else here needs

            build.meta_model(composed.cfg)  # a budget that no width meets; the answer is kept for the row
    except UsageError as error:
        raise UsageError(f"Row '{label}': {error}") from error
    return composed


def _plugin(launcher: Sequence[str], folder: Path) -> Any:
    """Return Hydra's launcher; what it writes of its own goes under `folder`, where the runs are."""
    search_path = create_automatic_config_search_path(None, None, str(conf_dirs()[-1]))
    loader = ConfigLoaderImpl(config_search_path=search_path)
    try:
        hydra_cfg = loader.load_configuration("config", list(launcher), run_mode=RunMode.MULTIRUN)
        hydra_cfg.hydra.sweep.dir = str(folder)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_row, config=hydra_cfg)
    except (HydraException, OmegaConfBaseException, ImportError, RuntimeError) as error:
        raise UsageError(_explain(error, launcher)) from error
    finally:
        GlobalHydra.instance().clear()


def _explain(error: Exception, launcher: Sequence[str]) -> str:
    """Return what is wrong with the launcher: an unknown one, a key that it does not have, or a missing extra."""
    from hydra.core.config_store import ConfigStore

    texts = [text.lstrip("+~") for text in launcher]
    group = next((text.partition("=")[2] for text in texts if text.startswith("hydra/launcher=")), "basic")
    stored = ConfigStore.instance().list("hydra/launcher")
    known = {name.removesuffix(".yaml") for name in stored} | {
        path.stem for folder in conf_dirs() for path in (folder / "hydra" / "launcher").glob("*.yaml")
    }
    extra = (
        ""
        if "submitit_slurm.yaml" in stored and "joblib.yaml" in stored
        else (" Launchers beyond 'basic' need the extra 'sweep': pip install 'dehaze-bench[sweep]'.")
    )
    if group not in known:
        return f"Unknown hydra/launcher '{group}'. {nearest(group, known)}{extra}"
    wrong = re.search(r"override '?\+*hydra\.launcher\.(\w+)", str(error))
    keys = _keys(group) if wrong else []
    if wrong and keys and wrong[1] not in keys:
        return f"Unknown key 'hydra.launcher.{wrong[1]}' of launcher '{group}'. {nearest(wrong[1], keys)}"
    cause = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
    return f"The launcher '{group}' cannot be made: {cause}.{extra}"


def _keys(group: str) -> list[str]:
    loader = ConfigLoaderImpl(config_search_path=create_automatic_config_search_path(None, None, str(conf_dirs()[-1])))
    found = loader.load_configuration("config", [f"hydra/launcher={group}"], run_mode=RunMode.MULTIRUN)
    return [str(key) for key in found.hydra.launcher if not str(key).startswith("_")]


def _through_hydra(plugin: Any, rows: Sequence[Sequence[str]], composed: Sequence[Composed]) -> list[dict[str, Any]]:
    """Launch; where a worker's end took the whole pool along, launch again what neither finished nor failed."""
    found: dict[int, dict[str, Any]] = {}
    lost = ""
    for _ in range(ATTEMPTS):
        waiting = [k for k in range(len(rows)) if k not in found]
        try:
            returns = plugin.launch([list(rows[k]) for k in waiting], initial_job_idx=0)
        except Exception as error:  # each launcher has its own for a worker that died
            lost = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            print(f"The launcher lost its workers ({lost}); what they had not done starts again.", file=sys.stderr)
            found |= {k: value for k in waiting if (value := _settled(composed[k])) is not None}
            if len(found) == len(rows):
                break
            continue
        finally:
            GlobalHydra.instance().clear()
        found |= {k: _returned(back) for k, back in zip(waiting, returns, strict=True)}
        break
    for k in range(len(rows)):
        if k not in found:
            message = f"Lost {ATTEMPTS} times by the launcher ({lost})."
            row.record_loss(composed[k], message)
            found[k] = _status("failed", message, identify_run(composed[k]).name)
    return [found[k] for k in range(len(rows))]


def _returned(back: Any) -> dict[str, Any]:
    try:
        value: dict[str, Any] = back.return_value
    except Exception as error:  # the job ended outside the row
        return _status("failed", f"the launcher reports {type(error).__name__}: {error}")
    return value


def _settled(composed: Composed) -> dict[str, Any] | None:
    """Return the status of a row that is done or failed by its run directory, once no process works there."""
    identity, until = identify_run(composed), time.monotonic() + RELEASE_S
    store = Store(Path(composed.cfg.paths.runs))
    while (stored := store.get(identity.id)) is not None and stored.state == "running" and time.monotonic() < until:
        time.sleep(0.5)
    if stored is None or stored.state not in ("done", "failed"):
        return None
    return _status(stored.state, stored.reason, identity.name)


def _status(state: str, message: str, name: str = "") -> dict[str, Any]:
    code = {"done": 0, "requeue": Requeue.exit_code}.get(state, 1)
    return asdict(Status("", name, state, 0.0, message, code))


def run_row(cfg: DictConfig) -> dict[str, Any]:
    """Do the row of the job that Hydra set up, composed anew from its overrides; never raises for a failed row."""
    return row.run(tuple(HydraConfig.get().overrides.task))
