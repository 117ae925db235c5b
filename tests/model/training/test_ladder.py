"""A ladder of sizes as one command: it grows, resumes, and refuses what does not fit before the first step."""

import json
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from model.training.config import TrainingConfig
from model.training.ladder import plan_ladder
from model.training.run_metadata import read_run_config
from service.cli import main
from tests.model.data.images import write_images

TINY = [
    "--preset", "tiny-32", "--channel-max", "8", "--discriminator-channel-max", "8", "--device", "cpu",
    "--metrics", "none", "--bandwidth", "2",
]  # fmt: skip


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    command = ["dataset", str(write_images(folder / "images", size=40)), str(folder / "set.zip"), "--keep-size"]
    assert main([*command, "--resolution", "32"]) == 0
    return folder / "set.zip"


def test_images_and_settings_of_the_sizes() -> None:
    stages = plan_ladder([16, 32, 64], "small-64", {"total_kimg": 70.0}, {}, Path("run"))
    assert [stage.config.total_kimg for stage in stages] == pytest.approx([10, 20, 40])
    assert [str(stage.outdir) for stage in stages] == ["run/16", "run/32", "run/64"]
    assert {stage.config.gamma for stage in stages} == {0.1}
    assert {stage.config.generator.blocks for stage in stages} == {5}
    assert [stage.config.ema_rampup for stage in stages] == [0.05, 0.0, 0.0]
    stages = plan_ladder([32, 64], "small-64-patches", {}, {"last_block": 32}, None)
    assert [stage.config.patches for stage in stages] == [False, True]
    assert [stage.config.generator.max_scale for stage in stages] == [1.0, 4.0]
    assert [stage.config.generator.last_block for stage in stages] == [None, 32]


def test_a_ladder_grows_and_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    arguments = ["train", *TINY, "--data", str(data), "--outdir", str(tmp_path / "run"), "--ladder", "8,16,32"]
    assert main([*arguments, "--total-kimg", "0.056"]) == 0
    networks = []
    for size, images in ((8, 8), (16, 16), (32, 32)):
        folder = tmp_path / "run" / str(size)
        checkpoint = Checkpoint.open(folder / f"checkpoint-{images:09d}.safetensors")
        assert (checkpoint.config.resolution, checkpoint.config.blocks, checkpoint.config.bandwidth) == (size, 4, 2.0)
        networks.append(checkpoint.load())
        source = json.loads((folder / "run.json").read_text())["transfer"]
        assert source == (None if size == 8 else str(tmp_path / f"run/{size // 2}/state-{images // 2:09d}.pt"))
    first, _, last = (network.synthesis.input.frequencies for network in networks)
    assert (first == last).all()
    before = (tmp_path / "run" / "16" / "checkpoint-000000016.safetensors").read_bytes()
    assert main([*arguments, "--total-kimg", "0.112"]) == 0
    config = read_run_config(tmp_path / "run" / "8")
    assert isinstance(config, TrainingConfig)
    assert (tmp_path / "run" / "32" / "checkpoint-000000064.safetensors").exists()
    assert (tmp_path / "run" / "16" / "checkpoint-000000016.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ladder", "32,16"], "--ladder: must be two or more increasing sizes such as 16,32,64, not 32,16"),
        (["--ladder", "16"], "--ladder: must be two or more"),
        (["--ladder", "a,b"], "--ladder"),
        (["--ladder", "8,24"], "config.resolution: must be a power of two, not 24"),
        (["--ladder", "8,64"], "is 40×40, not 64×64 or more"),
        (["--ladder", "8,16", "--resolution", "16"], "resolution: follows from --ladder"),
        (["--ladder", "8,16", "--transfer", "a.pt"], "transfer: cannot be combined with --ladder"),
        (["--ladder", "8,16", "--data", "PLAIN"], "data: has images of one size only, but a ladder reads them"),
    ],
)
def test_what_does_not_fit_is_named_at_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    plain = str(write_images(tmp_path / "plain", size=16))
    given = [plain if option == "PLAIN" else option for option in options]
    arguments = ["train", *TINY, "--data", str(data), "--outdir", str(tmp_path / "run"), *given]
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_dry_run_tells_the_cost_of_every_size(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "--data", str(data), "--dry-run", "--ladder", "8,16"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["generator"]["resolution"] == 16
    assert printed.err.count("work    ") == 2
    assert "\n16²\n" in printed.err
