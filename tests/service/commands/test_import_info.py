"""``creps import`` and ``creps info`` as a user calls them."""

import json
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.accuracy import AccuracyReport
from model.checkpoint import Checkpoint, save_checkpoint
from model.config import GeneratorConfig
from model.generator import Generator
from service.cli import main
from tests import golden_files, original_pickle


@pytest.fixture
def source(tmp_path: Path) -> Path:
    golden = golden_files.load("official_r16_conditional")
    return original_pickle.write(tmp_path / "network.pkl", golden.state, golden.config)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    config = GeneratorConfig(8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=8)
    info = {"licence": "CC0", "images_seen": 12, "note": "two\nlines \x1b[31m"}
    return save_checkpoint(tmp_path / "demo.safetensors", Generator(config), info)


def refusal(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that exits with status 2 says: exactly one line on stderr."""
    try:
        status: object = main([str(argument) for argument in arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.err.startswith(f"creps {arguments[0]}: error: ")
    return captured.err


@pytest.mark.parametrize("network", golden_files.NETWORKS)
def test_imported_checkpoints_draw_what_the_original_draws(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = golden_files.load(network)
    source = original_pickle.write(tmp_path / "network.pkl", golden.state, golden.config)
    destination = tmp_path / "models" / "network.safetensors"
    assert main(["import", str(source), str(destination)]) == 0
    checkpoint = Checkpoint.open(destination)
    out = capsys.readouterr().out
    assert checkpoint.digest in out
    assert str(destination) in out
    generator = checkpoint.load()
    for case in golden.cases:
        image = generator.synthesis(case.styles(generator), *case.positions())
        error = torch.linalg.vector_norm(image - case.image) / torch.linalg.vector_norm(case.image)
        assert error < 1e-4, case.name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "not a complete pickle"),
        (lambda content: b"{}", "not a complete pickle"),
        (lambda content: b"", "is empty"),
        (lambda content: pickle.dumps({"weights": [1.0]}), "holds no network 'G_ema'"),
        (lambda content: content.replace(b"decoder_16", b"decoder_17"), "'synthesis.decoder_1"),
        (lambda content: b"\x80\x04Nr\xff\xff\xff\xff.", "memo slots"),
    ],
)
def test_bad_sources_are_refused_in_one_line(
    source: Path, damage: Callable[[bytes], bytes], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_bytes(damage(source.read_bytes()))
    destination = source.with_name("imported.safetensors")
    assert message in refusal(["import", source, destination], capsys)
    assert list(source.parent.iterdir()) == [source]


def test_a_forbidden_name_is_told_and_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary = tmp_path / "canary"

    class Harmful:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    source = tmp_path / "network.pkl"
    source.write_bytes(pickle.dumps({"G_ema": Harmful()}))
    assert ".system'" in refusal(["import", source, tmp_path / "a.safetensors"], capsys)
    assert not canary.exists()


def test_destinations_are_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ".safetensors" in refusal(["import", tmp_path / "missing.pkl", tmp_path / "b.onnx"], capsys)
    assert "missing.pkl" in refusal(["import", tmp_path / "missing.pkl", tmp_path / "b.safetensors"], capsys)
    assert "required" in refusal(["import", tmp_path / "missing.pkl"], capsys)


def test_info_tells_what_a_checkpoint_is(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(checkpoint.path)]) == 0
    out = capsys.readouterr().out
    for text in (checkpoint.digest, "demo", "channel_max", "layerwise", "CC0", "images_seen", "MFLOP"):
        assert text in out
    assert "levels from fp64" not in out  # which takes seconds
    assert "\x1b" not in out, "text out of a file must not steer the terminal"


def test_info_as_json(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", str(checkpoint.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["info", "--json", "--precision", str(checkpoint.path)]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured.pop("precision")[-1]["levels"] <= 1
    assert (
        found
        == measured
        == {
            "name": "demo",
            "digest": checkpoint.digest,
            "file_bytes": checkpoint.path.stat().st_size,
            "parameters": sum(parameter.numel() for parameter in checkpoint.load().parameters()),
            # One product of rank 8, one decoder, the colours and two refinement blocks; two layers and a ToLine.
            "pixel_flops": 2
            * (32 * 8 + 20_480 + 96 + (32 * 128 + 128 * 128 + 128 * 3) + (128 * 64 + 64 * 64 + 64 * 3)),
            "line_flops": 2 * 8 * (8 * 8 + 8 * 8 + 8 * 8 + 8 * 32),
            "detail_pixels": 8,
            "config": checkpoint.config.to_dict(),
            "info": dict(checkpoint.info),
        }
    )


def test_info_tells_what_patches_have_taught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = GeneratorConfig(8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=8, max_scale=4.0)
    path = save_checkpoint(tmp_path / "fine.safetensors", Generator(config)).path
    assert main(["info", str(path)]) == 0
    assert "of images of up to 32×32" in capsys.readouterr().out


def test_the_cost_of_the_papers_model() -> None:
    """Counted by hand for the 512 config: 178,592 and 85 million multiply-adds for a pixel and a line position."""
    config = GeneratorConfig(512)
    assert config.pixel_macs == 178_592
    assert config.line_macs == pytest.approx(85e6, rel=0.01)


def test_info_refuses_what_is_no_checkpoint(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "creps import" in refusal(["info", source], capsys)
    assert 'does not exist; "demo" is the bundled' in refusal(["info", source.with_name("missing")], capsys)


def test_info_tells_what_a_gpu_measured(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = (AccuracyReport("fp16", 2, 0.033, 71.34), AccuracyReport("fp16×3", 1, 0.0001, 136.6))
    monkeypatch.setattr("service.commands.info._measure", lambda checkpoint: tried)
    assert main(["info", "--precision", str(checkpoint.path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("precision"))
    assert "fp16: at most 2 of 255 levels from fp64, 3.3% differing, 71.3 dB; fp16×3: at most 1 " in line
    assert main(["info", "--precision", "--json", str(checkpoint.path)]) == 0
    best = json.loads(capsys.readouterr().out)["precision"][-1]
    assert best == {"arithmetic": "fp16×3", "levels": 1, "differing": 0.0001, "psnr": 136.6}
