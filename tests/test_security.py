"""Configs, weights and checkpoints are data: none of them runs code, and none of our files holds a secret."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
import torch

from dehaze_bench import build, cli, source, targets
from dehaze_bench.compose import compose_run
from dehaze_bench.engine import checkpoint
from dehaze_bench.errors import BenchError, JobError, UsageError
from dehaze_bench.redaction import redact
from tests import tiny

PACKAGE = Path(build.__file__).parent
# Files that name `pickle` for its exception alone, and the one that reads npz archives without it.
NAMES_PICKLE = {"weights/files.py", "engine/perceptual.py", "engine/checkpoint.py"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("os", "system"),
    ("os", "popen"),
    ("tarfile", "open"),
    ("zipfile", "ZipFile"),
    ("shutil", "unpack_archive"),
}
SERIALISERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_module_runs_text_or_unpickles() -> None:
    assert len(modules()) > 200
    for path in modules():
        _inspect(path)


def _inspect(path: Path) -> None:
    where = str(path.relative_to(PACKAGE)).replace("\\", "/")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                str(getattr(node, "module", "")).split(".")[0]
            }
            assert not names & SERIALISERS or where in NAMES_PICKLE, (where, node.lineno)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in ATTRIBUTES, (where, node.lineno)
            assert node.value.id != "pickle" or node.attr.endswith("Error"), (where, node.lineno)
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if isinstance(called, ast.Name):
            assert called.id not in BUILTINS, (where, node.lineno)
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            name = f"{called.value.id}.{called.attr}"
            assert name != "torch.load" or given.get("weights_only") == "True", (where, node.lineno)
            assert name not in ("np.load", "numpy.load") or given.get("allow_pickle", "False") == "False", where
            assert name != "yaml.load" or "Loader" in given, (where, node.lineno)
            assert name not in ("yaml.unsafe_load", "yaml.full_load"), (where, node.lineno)
        assert given.get("shell", "False") == "False", (where, node.lineno)


class Payload:
    """Pickles to a call that makes a file: the proof that something ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "bin", "safetensors"])
def test_weights_that_would_run_code_are_refused(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, proof = tmp_path / f"weights.{suffix}", tmp_path / "ran"
    torch.save({"params": {"conv.weight": torch.zeros(1)}, "extra": Payload(proof)}, path)
    for model in (["model=aodnet"], []):
        code = cli.run(["eval", *tiny.overrides(tmp_path), *model, f"weights={path}"])
        err = capsys.readouterr().err
        assert code == 2 and "Traceback" not in err and str(path) in err
        assert suffix == "safetensors" or "would run code" in err
    assert not proof.exists()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({"id": "0" * 8, "step": 1, "model": Payload(proof)}, tmp_path / "last.pt")
    with pytest.raises(JobError, match=r"last\.pt.*cannot be read"):
        checkpoint.read(tmp_path / "last.pt", "0" * 8)
    assert not proof.exists()


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "+model.extra._target_=os.system",
        "+loss.parts=[{_target_:os.system}]",
        "schedule._target_=subprocess.run",
        "optimizer._target_=builtins.eval",
        "optimizer._target_=torch.load",
        "optimizer._target_=torch_optim.AdamW",
        "dataset._target_=dehaze_benchmarks.Data",
        "scan=cross scan.order._target_=shutil.rmtree",
        "model._target_=system",
        "model._target_=3",
        "model._target_=torch.nn..Module",
    ],
)
def test_targets_outside_the_list_are_refused_before_import(override: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="_target_") as caught:
        compose_run(override.split())
    assert "DEHAZE_TARGETS=" in str(caught.value) or "write the dotted name" in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "dehaze_bench.cli.os.system",  # not a module
        "dehaze_bench.row.subprocess",  # a module, not a function
        "dehaze_bench.counting.FlopCounterMode",  # merely imported there
        "dehaze_bench.build.instantiate",
        "dehaze_bench.config.NUMERICS",
    ],
)
def test_what_an_allowed_module_imports_is_not_thereby_allowed(target: str) -> None:
    with pytest.raises(UsageError, match="_target_"):
        targets.locate(target, "model")


def test_the_variable_is_the_one_place_to_extend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code_of_a_user.py").write_text(
        "open('imported', 'w').close()\n\n\ndef steady(step, steps):\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = [
        "schedule._target_=code_of_a_user.steady",
        "+schedule._partial_=true",
        "~schedule.warmup",
        "~schedule.floor",
    ]
    with pytest.raises(UsageError, match=r"dehaze_bench, torch\.optim, torch\.nn only.*DEHAZE_TARGETS=code_of_a_user"):
        compose_run(wanted)
    assert not (tmp_path / "imported").exists()
    monkeypatch.setenv("DEHAZE_TARGETS", "something_else, code_of_a_user")
    assert build.schedule(compose_run(wanted).cfg)(0, 1) == 1.0


def test_the_config_of_a_foreign_run_is_data(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    from dehaze_bench import run

    outcome = run.train(composed)
    path, proof = outcome.path / "config.yaml", tmp_path / "ran"
    text = path.read_text()
    planted = f"model:\n  _target_: os.mkdir\n  path: {proof}\n"
    path.write_text(planted + text[text.index("scan:") :] if text.startswith("model:") else text + planted)
    overrides = [text for text in tiny.overrides(tmp_path) if not text.startswith("dataset")]
    evaluation = source.compose_for([*overrides, "protocol=full_y"], outcome.record.id)
    with pytest.raises(BenchError, match=r"os\.mkdir"):
        run.evaluate(evaluation, outcome.record.id)
    assert not proof.exists()


def test_no_secret_reaches_the_files_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = {
        "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
        "HF_TOKEN": "hf_AbCdEfGhIjKl",
        "AWS_SECRET_ACCESS_KEY": 'sl"ash\\quote',
        "MY_DB_PASSWORD": "correct horse battery",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    words = [f"track.project={planted['WANDB_API_KEY']}", "track.entity='${oc.env:HF_TOKEN}'"]
    arguments = [*tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING), *words]
    assert cli.run(["train", *arguments]) == 0
    infinite = ["optimizer.lr=1e30", "train.clip=null"]
    assert cli.run(["train", *arguments, *infinite]) == 1
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "failed.json" for path in files) and any(path.name == "result.json" for path in files)
    for path in files:
        content = path.read_bytes()
        for value in planted.values():
            assert value.encode() not in content and json.dumps(value)[1:-1].encode() not in content, path
    environment = json.loads(next(path for path in files if path.name == "env.json").read_text())
    assert "track.project=***" in environment["overrides"]
    del environment["overrides"]  # which may name a variable
    assert not any(name in json.dumps(environment) for name in planted)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("track.api_key=abc", "track.api_key=***"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "***", "n": 1}'),
        ('{"password": 123}', '{"password": "***"}'),
        ("secret_key: 'a b'\nx: 1", "secret_key: '***'\nx: 1"),
        ("https://user:word@host/x", "https://***@host/x"),
        ("model.cls_token: true, key: 3, num_tokens=4", "model.cls_token: true, key: 3, num_tokens=4"),
    ],
)
def test_redaction_masks_what_names_itself_a_secret(text: str, masked: str) -> None:
    assert redact(text) == masked


def test_a_short_or_file_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "true")
    monkeypatch.setenv("SSH_KEY_FILE", "/home/user/key")
    monkeypatch.setenv("MONKEY_BUSINESS", "long enough")
    assert redact("true /home/user/key long enough") == "true /home/user/key long enough"
