"""`export`: what is written gives what the network gives, or is not kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dehaze_bench import cli, exporting
from dehaze_bench.models.restorers.aodnet import AODNet
from tests import tiny


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "published.pth"
    torch.save({name.replace("conv", "e_conv"): tensor for name, tensor in AODNet().state_dict().items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_program_gives_what_the_network_gives(
    suffix: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    out = tmp_path / "out" / f"network{suffix}"
    assert cli.run(["export", "model=aodnet", f"weights={weights}", "size=32", str(out)]) == 0
    assert "any size" in capsys.readouterr().out
    network = AODNet().eval()
    state = torch.load(weights, weights_only=True)
    network.load_state_dict({name.replace("e_conv", "conv"): tensor for name, tensor in state.items()})
    hazy_BCHW = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        expected = network(hazy_BCHW)
    if suffix == ".pt2":
        found = torch.export.load(out).module()(hazy_BCHW)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"hazy": hazy_BCHW.numpy()})[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert list(out.parent.iterdir()) == [out]


def test_weights_carry_their_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING)
    assert cli.run(["train", *arguments]) == 0
    run_id = next((tmp_path / "runs").iterdir()).name[-8:]
    out = tmp_path / "network.safetensors"
    assert cli.run(["export", f"run={run_id}", f"paths.runs={tmp_path / 'runs'}", str(out), "size=32"]) == 0
    capsys.readouterr()
    places = [f"weights={out}", *tiny.overrides(tmp_path, *tiny.NETWORK)]
    assert cli.run(["eval", *places]) == 0
    assert "psnr" in capsys.readouterr().out


def test_what_differs_is_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "_save_pt2", lambda *_: lambda hazy_BCHW: hazy_BCHW + 0.01)
    out = tmp_path / "network.pt2"
    assert cli.run(["export", "model=aodnet", f"weights={weights}", "size=32", str(out)]) == 1
    assert "gives other values at 32 x 32" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.pt2"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=aodnet"], "export needs one file to write"),
        (["model=aodnet", "network.onxx"], "Did you mean '.onnx'"),
        (["model=dcp", "network.pt2"], "has no weights"),
        (["model=aodnet", "network.pt2"], "needs weights here"),
    ],
)
def test_a_bad_request_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", *words]) == 2
    assert message in capsys.readouterr().err
