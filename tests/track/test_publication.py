"""The verb `publish`: real small runs and their table, replayed to a server that keeps what it gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_workspaces import workspaces

from dehaze_bench import cli
from dehaze_bench.publication import Destination, publish_run
from dehaze_bench.results.record import read_per_image
from dehaze_bench.results.store import Store
from dehaze_bench.track.jsonl import read_history
from dehaze_bench.track.wandb_layout import Layout, _sections
from tests import tiny
from tests.track.offline_file import history
from tests.track.server import Faults, Run, Server, serving

KEY = "planted0secret0key0planted0secret0key000"
EXPERIMENT = """\
name: small
title: A small experiment
base: [{base}]
rows:
  - {{label: wide, overrides: [{row}, model.width=8]}}
  - {{label: conv, overrides: [{row}], seeds: [0, 1]}}
columns: [params, psnr, ssim]
sort: psnr
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and one that failed, neither of them tracked."""
    folder = tmp_path_factory.mktemp("made")
    run = [*tiny.overrides(folder, *tiny.NETWORK, *tiny.TRAINING), "train.eval_every=3"]
    assert cli.run(["train", *run]) == 0
    assert cli.run(["train", *run, "optimizer.lr=1e30", "train.clip=null"]) == 1
    return folder


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield found


def stored(made: Path, state: str) -> Any:
    return next(run for run in Store(made / "runs").runs() if run.state == state)


def content(server: Server, run: Run) -> dict[str, Any]:
    """All that a server holds of a run but clock readings and what W&B calls its files."""
    clocks = ("_step", "_runtime", "_timestamp", "_wandb", "pairs/images", "scan_picture")
    return {
        "history": run.history(),
        "config": run.config,
        "summary": {key: value for key, value in run.summary().items() if key not in clocks},
        "end": (run.name, run.group, run.exit_code),
        "tables": {name: {**table, "files": sorted(table["files"])} for name, table in server.tables(run.id).items()},
        "artifacts": sorted((a.name, a.digest) for a in server.artifacts.values() if a.run == run.id),
    }


def test_runs_are_replayed_from_their_directories_once(
    made: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    done, failed = stored(made, "done"), stored(made, "failed")
    assert cli.run(["publish", str(made / "runs"), "track.patience=120"]) == 0
    said = capsys.readouterr().out
    assert f"{server.url}/someone/dehaze-bench/runs/{done.id}" in said and "2 published, 0 not" in said
    assert sorted(server.runs) == sorted([done.id, failed.id])
    first = {run.id: content(server, run) for run in server.runs.values()}

    run = server.runs[done.id]
    rows = list(read_history(done.path / "metrics.jsonl"))
    sent = {row["_step"]: row for row in run.history()}
    for step, values in rows:
        for name, value in values.items():
            assert sent[step][name] == pytest.approx(value, nan_ok=True), (step, name)
    assert run.config == json.loads((done.path / "result.json").read_text())["config"]
    assert run.summary()["evaluation"]["n"] == 3
    assert run.exit_code == 0
    (table,) = server.tables(done.id).values()
    found = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["data"]}
    for image in read_per_image(done.path / "per_image.csv"):
        shown = found[image.name]
        assert {name: shown[name] for name in image.values} == pytest.approx(image.values)
        kept = done.path / "images" / "pairs"
        for column, place in (("hazy", "hazy"), ("restored", ""), ("truth", "clear")):
            body = table["files"][shown[column]["path"]]
            assert body == (kept / place / f"{image.name}.png").read_bytes(), column
        assert shown["error"]["path"] in table["files"]
    (artifact,) = server.artifact(f"run-{done.id}")
    names = ("config.yaml", "env.json", "metrics.jsonl", "per_image.csv", "result.json")
    assert artifact.files == {name: (done.path / name).read_bytes() for name in names}
    assert len(artifact.metadata["weights"]["sha256"]) == 64
    assert any("scan_picture" in name for name in run.files)

    assert server.runs[failed.id].exit_code == 1
    assert "loss" in server.runs[failed.id].summary()["error"]

    assert cli.run(["publish", done.id, str(failed.path), f"paths.runs={made}/runs", "track.patience=120"]) == 0
    for run_id, before in first.items():
        after = content(server, server.runs[run_id])
        for part, value in before.items():
            assert after[part] == value, part


def test_what_could_not_be_sent_is_named(made: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults.refuse = ("CreateArtifact",)
    done = stored(made, "done")
    assert cli.run(["publish", str(done.path), "track.patience=120"]) == 1
    said = capsys.readouterr()
    assert f"{done.path.name}  NOT SENT: W&B reports sender: failed to log artifact" in said.err
    assert "0 published, 1 not; publish again" in said.out
    server.faults.refuse = ()
    assert cli.run(["publish", str(done.path), "track.patience=120"]) == 0
    assert server.artifact(f"run-{done.id}") and server.tables(done.id)
    assert len(server.runs[done.id].history()) == len({s for s, _ in read_history(done.path / "metrics.jsonl")})


def test_without_a_server_all_is_named_and_nothing_tried_twice(
    made: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.die()
    assert cli.run(["publish", str(made / "runs")]) == 1
    said = capsys.readouterr()
    assert "no answer from http://127.0.0.1" in said.err and KEY not in said.err
    assert said.err.count("not tried after the failure above") == 1
    assert "0 published, 2 not" in said.out


def test_offline_publication_replaces_the_one_before(made: Path, home: Path) -> None:
    done = stored(made, "done")
    for _ in range(2):
        sent = publish_run(done, Destination("offline", patience=120))
        assert (sent.problem, sent.url, sent.reached) == ("", "", True)
    (path,) = done.path.glob(f"wandb/offline-run-*/run-{done.id}.wandb")
    assert [row["_step"] for row in history(path)] == sorted({s for s, _ in read_history(done.path / "metrics.jsonl")})


def test_damaged_and_unknown_runs(made: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = made / "copied" / stored(made, "done").path.name
    shutil.copytree(stored(made, "done").path, copy)
    (copy / "result.json").write_text("{}")
    assert cli.run(["publish", str(copy)]) == 1
    assert "NOT SENT: its directory is broken" in capsys.readouterr().err
    assert cli.run(["publish", "dmeo", f"paths.runs={made}/runs"]) == 2
    assert "Did you mean 'demo'?" in capsys.readouterr().err
    for wrong, text in (
        (["track.mode=onlin", "x"], "Did you mean 'online'"),
        (["track.mode=disabled", "x"], "sends nothing"),
        (["track.patience=soon", "x"], "not a number of seconds"),
        ([], "needs a run"),
        (["--tabel", "demo"], "Unknown option '--tabel'"),
    ):
        assert cli.run(["publish", *wrong]) == 2
        assert text in capsys.readouterr().err


@pytest.mark.slow
def test_experiment_is_its_runs_and_a_table_with_links(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    row, base = (
        ", ".join(f'"{t}"' for t in texts) for texts in ([*tiny.NETWORK, *tiny.TRAINING], tiny.overrides(tmp_path))
    )
    path.write_text(EXPERIMENT.format(base=base, row=row))
    assert cli.run(["sweep", str(path)]) == 0
    assert cli.run(["table", str(path), "--publish"]) == 0
    assert "offline-run-" in capsys.readouterr().out, "an experiment that is not tracked publishes for later"
    for _ in range(3):
        assert cli.run(["publish", str(path), "track.patience=120"]) == 0
        runs = {run.id for run in Store(tmp_path / "runs").runs()}
        assert set(server.runs) == runs | {"table-small"} and len(runs) == 3
        (table,) = server.tables("table-small").values()
        rows = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
        conv = next(line for line in rows if line["label"] == "conv")
        links = [conv["run 1"], conv["run 2"]]
        assert all(link.startswith(f"{server.url}/someone/dehaze-bench/runs/") for link in links)
        assert {link.rpartition("/")[2] for link in links} < runs
        (artifact,) = server.artifact("table-small")
        assert artifact.files["table.md"] == (tmp_path / "tables" / "small" / "table.md").read_bytes()
        assert "plots/quality_params" in server.runs["table-small"].summary()
        for run in Store(tmp_path / "runs").runs():
            steps = sorted({step for step, _ in read_history(run.path / "metrics.jsonl")})
            assert [row["_step"] for row in server.runs[run.id].history()] == steps
        assert "saved view: " in capsys.readouterr().out
        (view,) = server.views.values()
        shown = json.loads(view["spec"])["section"]
        (names,) = shown["runSets"][0]["filters"]["filters"]
        assert set(names["value"]) == {run.name for run in server.runs.values()}
        assert view["displayName"] == "small: A small experiment"

    server.views.clear()  # somebody removed it
    assert cli.run(["publish", str(path), "--table", "track.patience=120"]) == 0
    assert len(server.views) == 1
    server.faults.refuse = ("UpsertView2",)
    capsys.readouterr()
    assert cli.run(["publish", str(path), "--table", "track.patience=120"]) == 0
    assert "no saved view of its runs: " in capsys.readouterr().out


def test_a_view_shows_table_results_curves_and_pictures() -> None:
    layout = Layout("t", ["a", "b"], "comparison", ["photos/psnr", "photos/ssim"], ["cost.macs"], ["plots/ranks"])
    sections = {section.name: section.panels for section in _sections(layout.to_dict())}
    assert list(sections) == ["Table", "Results", "Curves", "Pictures"]
    view = workspaces.Workspace(entity="e", project="p", sections=_sections(layout.to_dict()))
    spec = view._to_model().spec.model_dump_json()
    for key in (
        "comparison",
        "photos/psnr",
        "photos/ssim",
        "summary:cost.macs",
        "photos/images",
        "plots/ranks",
        "loss",
    ):
        assert key in spec, key


@pytest.mark.slow
def test_live_run_and_its_replay_are_the_same(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [*tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING), "train.eval_every=3", "track.mode=online"]
    assert cli.run(["train", *run, "track.patience=120"]) == 0
    (live,) = server.runs.values()
    (path,) = (tmp_path / "runs").glob("*-????????")
    with serving(Faults()) as other:
        monkeypatch.setenv("WANDB_BASE_URL", other.url)
        assert cli.run(["publish", str(path), "track.patience=120"]) == 0
        (replayed,) = other.runs.values()
        assert content(other, replayed) == content(server, live)
