"""Training as a user runs it: it learns, it resumes exactly, it stops cleanly, it refuses what cannot work."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.generator import Generator
from model.training import grids
from model.training.config import TrainingConfig
from model.training.dataset import ImageDataset
from model.training.grids import draw_samples
from model.training.loop import train
from model.training.state import TrainingState, read_state
from service.cli import main
from tests.model.training.pictures import tiny_config, tiny_data, write_pictures, write_zip

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the networks are too small to share


def _train(config: TrainingConfig, data: Path, outdir: Path, **options: Any) -> Path:
    return train(config, tiny_data(data, config), outdir, CPU, **options)


def test_a_run_leaves_all_that_people_look_at(tmp_path: Path) -> None:
    outdir = tmp_path / "run"
    checkpoint = _train(tiny_config(), tmp_path / "data", outdir, judge=lambda _: {"fid": 3.5})
    assert checkpoint.name == "checkpoint-000000024.safetensors"
    names = {path.name for path in outdir.iterdir()}
    assert {"data.png", "grid-000000000.png", "grid-000000012.png", "state-000000012.pt", "metrics.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    for name, size in (("grid-000000024.png", (8 * 8, 6 * 8)), ("grid4x-000000024.png", (4 * 32, 2 * 32))):
        with Image.open(outdir / name) as grid:
            assert grid.size == size
    with Image.open(outdir / "curves.png") as curves:
        assert curves.width > 600
    lines = [json.loads(line) for line in (outdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.008, 0.012, 0.016, 0.024]
    expected = {"loss_generator", "loss_discriminator", "r1_penalty", "path_length", "augment_p"}
    assert expected | {"images_per_second", "memory_gib"} <= set(lines[0])
    assert [line.get("fid") for line in lines] == [None, 3.5, None, 3.5]
    assert Checkpoint.open(checkpoint).info["images"] == 24


def test_the_record_tells_recipe_data_and_versions_of_every_session(tmp_path: Path) -> None:
    _train(tiny_config(total_kimg=0.012), tmp_path / "data", tmp_path / "run")
    _train(tiny_config(), tmp_path / "data", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert TrainingConfig.from_dict(record["config"]) == tiny_config()
    assert record["data"]["digest"] == tiny_data(tmp_path / "data").digest
    assert record["data"]["pictures"] == 6
    assert [session["versions"]["torch"] for session in record["sessions"]] == [torch.__version__] * 2


@pytest.mark.parametrize("stopped_at", [0.012, 0.02])  # the latter between two adjustments of ADA
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path, stopped_at: float) -> None:
    config = tiny_config(total_kimg=0.032)
    whole = _train(config, tmp_path / "data", tmp_path / "whole")
    _train(replace(config, total_kimg=stopped_at), tmp_path / "data", tmp_path / "parts")
    torch.manual_seed(99)  # a new process has another random state
    parts = _train(config, tmp_path / "data", tmp_path / "parts")
    assert parts.read_bytes() == whole.read_bytes()
    expected, resumed = (read_state(path.parent / "state-000000032.pt") for path in (whole, parts))
    for name in ("generator", "discriminator", "average"):
        for key, tensor in expected[name].items():
            assert torch.equal(tensor, resumed[name][key]), (name, key)
    for name in ("augment_p", "sign_sum", "path_length_mean", "random"):
        assert torch.equal(expected[name], resumed[name]), name
    assert expected["augment_p"] > 0
    assert expected["path_length_mean"] > 0


def test_the_log_of_a_run_that_goes_back_forgets_what_came_after(tmp_path: Path) -> None:
    outdir = tmp_path / "run"
    _train(tiny_config(), tmp_path / "data", outdir)
    (outdir / "state-000000024.pt").unlink()
    _train(tiny_config(), tmp_path / "data", outdir)
    lines = [json.loads(line)["kimg"] for line in (outdir / "metrics.jsonl").read_text().splitlines()]
    assert lines == [0.008, 0.012, 0.016, 0.024]


def test_an_unreadable_state_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    data, outdir = tmp_path / "data", tmp_path / "run"
    expected = _train(tiny_config(), data, outdir).read_bytes()
    newest = outdir / "state-000000024.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    (outdir / "checkpoint-000000024.safetensors").unlink()
    assert _train(tiny_config(), data, outdir).read_bytes() == expected
    for state in outdir.glob("state-*.pt"):
        state.write_bytes(b"")
    with pytest.raises(InputError, match="none of which can be read"):
        _train(tiny_config(), data, outdir)


def test_another_recipe_or_other_data_do_not_go_on_with_the_run(tmp_path: Path) -> None:
    _train(tiny_config(), tmp_path / "data", tmp_path / "run")
    with pytest.raises(InputError, match=r"gamma: the run was begun with 0\.1, not 9"):
        _train(tiny_config(gamma=9.0), tmp_path / "data", tmp_path / "run")
    other = ImageDataset(write_pictures(tmp_path / "other", count=7, seed=1), 8, mirror=True)
    with pytest.raises(InputError, match=r"data: the run was begun with .*data, whose digest is another"):
        train(tiny_config(), other, tmp_path / "run", CPU)


def test_it_learns(tmp_path: Path) -> None:
    """Pictures of one colour: after 200 steps the drawn ones are five times nearer to it than they were."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (200 + i, 60, 120)).save(folder / f"{i}.png")
    config = tiny_config(
        batch=8, learning_rate=0.005, total_kimg=1.6, snapshot_kimg=2.0, augmentation="none", path_length_weight=0.0
    )
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))

    def distance(generator: Generator) -> float:
        return float(np.abs(draw_samples(generator, z, None).mean(axis=(1, 2)) - [201.5, 60, 120]).mean())

    before = distance(TrainingState(config, CPU).average)
    after = distance(Checkpoint.open(_train(config, folder, tmp_path / "run")).load())
    assert after < before / 5, (before, after)


@pytest.mark.parametrize(
    "overrides",
    [
        {"loss": "r3gan", "r1_interval": 1, "path_length_weight": 0.0},
        {"precision": "bf16"},
        {"augmentation": "diffaugment"},
        {"augmentation": "none", "gamma": 0.0},
    ],
)
def test_every_way_to_train_moves_both_networks(tmp_path: Path, overrides: dict[str, object]) -> None:
    config = tiny_config(**overrides)
    begun = TrainingState(config, CPU)
    _train(config, tmp_path / "data", tmp_path / "run")
    state = read_state(max((tmp_path / "run").glob("state-*.pt")))
    for name, network in (("generator", begun.generator), ("discriminator", begun.discriminator)):
        weights = {key: value for key, value in network.state_dict().items() if key.endswith("weight")}
        moved = [key for key, value in weights.items() if not torch.equal(value, state[name][key])]
        assert len(moved) == len(weights)
        assert all(value.isfinite().all() for value in state[name].values())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it while it traces
def test_compiled_networks_learn_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but run without the compiler, which would take a minute and whose rounding is its own."""
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: plain(function, backend="aot_eager"))
    states = []
    for compiled in (False, True):
        config = tiny_config(compile=compiled, total_kimg=0.008)
        _train(config, tmp_path / "data", tmp_path / str(compiled))
        states.append(read_state(tmp_path / str(compiled) / "state-000000008.pt"))
    for name in ("generator", "discriminator"):
        for key, tensor in states[0][name].items():
            torch.testing.assert_close(states[1][name][key], tensor, rtol=1e-3, atol=1e-4, msg=key)


def test_a_conditional_network_trains_on_labels(tmp_path: Path) -> None:
    labels = {f"{i:03d}.png": i % 2 for i in range(6)}
    data = write_zip(tmp_path / "a.zip", write_pictures(tmp_path / "pictures"), labels)
    config = tiny_config(learning_rate=0.01)
    config = replace(config, generator=replace(config.generator, classes=2))
    begun = TrainingState(config, CPU).generator.mapping.embed
    generator = Checkpoint.open(_train(config, data, tmp_path / "run")).load()
    embed = generator.mapping.embed
    assert begun is not None
    assert embed is not None
    assert (embed.weight - begun.weight).abs().min() > 0  # both classes' columns were trained
    z = torch.randn(4, 8)
    first, second = (generator(z, torch.eye(2)[[i] * 4]) for i in (0, 1))
    assert (first - second).abs().max() > 1e-3


def test_a_loss_that_is_not_a_number_ends_the_run_and_spoils_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.training.losses import stylegan2

    config = tiny_config(loss="stylegan2")
    _train(replace(config, total_kimg=0.012), tmp_path / "data", tmp_path / "run")
    plain, calls = stylegan2.generator_loss, iter(range(100))
    monkeypatch.setattr(
        stylegan2, "generator_loss", lambda logits: plain(logits) * (float("nan") if next(calls) == 1 else 1.0)
    )
    with pytest.raises(InputError, match=r"loss_generator: is nan at step 4; .* try a larger gamma"):
        _train(config, tmp_path / "data", tmp_path / "run")
    assert max((tmp_path / "run").glob("state-*.pt")).name == "state-000000012.pt"
    assert max((tmp_path / "run").glob("checkpoint-*")).name == "checkpoint-000000012.safetensors"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_picture_ends_the_run_with_everything_saved(tmp_path: Path, workers: int) -> None:
    """Its header is whole and data.png does not show it, so it is found when its turn comes."""
    folder = write_pictures(tmp_path / "data", count=100)
    number = torch.randperm(100, generator=torch.Generator().manual_seed(grids.SEED))[-1]
    picture = folder / f"{number:03d}.png"
    content = picture.read_bytes()
    picture.write_bytes(content[:60] + bytes(len(content) - 60))
    config = tiny_config(total_kimg=0.2, snapshot_kimg=1.0)
    with pytest.raises(InputError, match=f"data: {picture.name} cannot be read"):
        _train(config, folder, tmp_path / "run", workers=workers)
    states = [path.name for path in (tmp_path / "run").glob("state-*.pt")]
    assert len(states) == 1
    images = int(states[0].removeprefix("state-").removesuffix(".pt"))
    assert 0 < images < 200
    assert (tmp_path / "run" / f"checkpoint-{images:09d}.safetensors").exists()


def test_a_full_disk_in_a_snapshot_leaves_the_one_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the state is the largest of them."""
    data, outdir = write_pictures(tmp_path / "data", size=32), tmp_path / "run"
    arguments = [
        "--data", str(data), "--outdir", str(outdir), "--preset", "tiny-32", "--device", "cpu", "--metrics", "none",
    ]  # fmt: skip
    assert main(["train", *arguments, "--total-kimg", "0.008"]) == 0
    saved = {path.name: path.read_bytes() for path in outdir.glob("state-*.pt")}
    (size,) = map(len, saved.values())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, size - 1000))

    command = [sys.executable, "-m", "model.training", *arguments, "--total-kimg", "0.016"]
    finished = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("python -m model.training: error: ")
    assert "state-000000016.pt: File too large" in finished.stderr
    assert {path.name: path.read_bytes() for path in outdir.glob("*state-*")} == saved
    assert main(["train", *arguments, "--total-kimg", "0.016"]) == 0


def test_a_bare_machine_trains_and_another_one_writes_the_checkpoint(tmp_path: Path) -> None:
    """Nothing but torch, numpy and pillow can be imported there."""
    arguments = [
        "--data", str(write_pictures(tmp_path / "data", size=32)), "--outdir", str(tmp_path / "run"), "--device", "cpu",
        "--preset", "tiny-32", "--total-kimg", "0.016", "--log-kimg", "0.008", "--metrics-count", "2",
    ]  # fmt: skip
    others = ["safetensors", "tqdm", "tensorboard", "matplotlib", "torch_fidelity", "torchvision", "pydantic", "triton"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({others!r})); "
        f"from model.training.__main__ import main; main({arguments!r})"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "0.0 of 0.0 kimg, 0 min left, loss_generator" in finished.stderr
    for name in ("curves.png was not drawn: matplotlib", "no checkpoint: safetensors is not installed"):
        assert name in finished.stderr
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".json", ".jsonl", ".png", ".pt"}
    assert main(["train", *arguments]) == 0
    assert Checkpoint.open(tmp_path / "run" / "checkpoint-000000016.safetensors").config.resolution == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "batch: must be from 1"),
        (["--batch", "6"], "multiple of minibatch_group"),
        (["--microbatch", "3"], "microbatch: 3 does not divide"),
        (["--gamma", "nan"], "gamma: must be from 0"),
        (["--freeze-d", "60"], "freeze_d: the discriminator has 10 layers"),
        (["--resolution", "24"], "must be a power of two"),
        (["--resolution", "16"], "is 8×8, not 16×16"),
        (["--classes", "3", "--resolution", "8"], "has no classes"),
        (["--device", "tpu"], "device: must be auto"),
        (["--device", "cuda:99"], "device: cuda:99 is not there"),
        (["--preset", "huge"], "--preset"),
        (["--data", "nowhere"], "neither a folder nor a zip"),
        (["--metrics", "beauty", "--resolution", "8"], "metrics: must be of fid, kid, pr, scale"),
        (["--transfer", "nowhere.safetensors"], "checkpoint: nowhere.safetensors is not a file"),
    ],
)
def test_train_command_names_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    data = write_pictures(tmp_path / "data")
    try:
        status = main(
            ["train", "--data", str(data), "--outdir", str(tmp_path / "run"), "--preset", "tiny-32", *arguments]
        )
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed.splitlines()[-1]
    assert not (tmp_path / "run").exists()
