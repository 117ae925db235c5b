"""Training: it learns, resumes exactly, stops cleanly, and refuses settings that cannot work."""

import errno
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import Checkpoint
from model.data.dataset import ImageDataset, shuffled_batches
from model.errors import InputError
from model.generator import Generator
from model.training import loop, metrics_log, sample_grids
from model.training.config import TrainingConfig
from model.training.distributed import Distributed
from model.training.loop import train
from model.training.losses import stylegan2
from model.training.sample_grids import draw_samples
from model.training.state import TrainingState, read_state
from model.training.step import TrainingStep
from model.util import progress
from service.cli import main
from tests.model.data.images import tiny_config, tiny_data, write_images, write_zip

pytestmark = pytest.mark.xdist_group("training")  # one finished run for all

CPU = torch.device("cpu")

CONFIG = tiny_config(seed=3)  # whose run needs augmentation

TINY = ["--preset", "tiny-32", "--resolution", "8", "--device", "cpu", "--metrics", "none"]
"""Options of the command for the smallest run."""


def _train(config: TrainingConfig, data: Path, outdir: Path, **options: Any) -> Path:
    return train(config, tiny_data(data, config), outdir, CPU, **options)


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and a finished ``run`` with grids of the usual size, curves and metrics."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sample_grids, "MAX_GRID", (8, 6))
        monkeypatch.setattr(sample_grids, "MAX_LARGE_GRID", (4, 2))
        monkeypatch.setattr(loop, "plot_curves", metrics_log.plot_curves)
        _train(CONFIG, folder / "data", folder / "run", metric_fn=lambda _: {"fid": 3.5})
    return folder


@pytest.fixture(name="stopped")
def _stopped(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run as it was after 12 images, but with the log of all 24."""
    outdir = tmp_path / "run"
    shutil.copytree(finished / "run", outdir)
    (outdir / "state-000000024.pt").unlink()
    (outdir / "checkpoint-000000024.safetensors").unlink()
    return outdir


def _logged_kimg(outdir: Path) -> list[float]:
    return [json.loads(line)["kimg"] for line in (outdir / "metrics.jsonl").read_text().splitlines()]


def test_files_of_a_run(finished: Path) -> None:
    outdir = finished / "run"
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
    assert Checkpoint.open(outdir / "checkpoint-000000024.safetensors").info["images"] == 24
    state = set(read_state(outdir / "state-000000024.pt"))
    networks = {"generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer"}
    assert state == networks | {
        "images", "steps", "augment_p", "sign_sum", "path_length_mean", "random", "config", "scalars",
    }  # fmt: skip


def test_a_resumed_run_equals_one_that_was_not_stopped(finished: Path, tmp_path: Path) -> None:
    """Stopped after 20 images, between two adjustments of ADA."""
    data, outdir = finished / "data", tmp_path / "run"
    _train(replace(CONFIG, total_kimg=0.020), data, outdir)
    torch.manual_seed(99)  # a new process has another random state
    resumed = _train(CONFIG, data, outdir)
    whole = finished / "run" / "checkpoint-000000024.safetensors"
    assert resumed.read_bytes() == whole.read_bytes()
    expected, found = (read_state(path.parent / "state-000000024.pt") for path in (whole, resumed))
    for name in ("generator", "discriminator", "average"):
        for key, tensor in expected[name].items():
            assert torch.equal(tensor, found[name][key]), (name, key)
    for name in ("augment_p", "sign_sum", "path_length_mean", "random"):
        assert torch.equal(expected[name], found[name]), name
    assert expected["augment_p"] > 0
    assert expected["path_length_mean"] > 0
    metadata = json.loads((outdir / "run.json").read_text())
    assert TrainingConfig.from_dict(metadata["config"]) == CONFIG
    assert metadata["data"]["digest"] == tiny_data(data).digest
    assert metadata["data"]["pictures"] == 6
    assert [session["versions"]["torch"] for session in metadata["sessions"]] == [torch.__version__] * 2


def test_an_unreadable_state_is_skipped_and_the_log_goes_back(finished: Path, stopped: Path) -> None:
    (stopped / "state-000000024.pt").write_bytes((stopped / "state-000000012.pt").read_bytes()[:1000])
    resumed = _train(CONFIG, finished / "data", stopped)
    assert resumed.read_bytes() == (finished / "run" / "checkpoint-000000024.safetensors").read_bytes()
    assert _logged_kimg(stopped) == [0.008, 0.012, 0.016, 0.024]
    for state in stopped.glob("state-*.pt"):
        state.write_bytes(b"")
    with pytest.raises(InputError, match="none of which can be read"):
        _train(CONFIG, finished / "data", stopped)


def test_other_settings_or_data_do_not_resume_the_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"r1_interval: .* 2, not 4"):
        _train(replace(CONFIG, r1_interval=4), finished / "data", finished / "run")
    other = ImageDataset(write_images(tmp_path / "other", count=7, seed=1), 8, mirror=True)
    with pytest.raises(InputError, match=r"data: .*data, whose digest differs"):
        train(CONFIG, other, finished / "run", CPU)


def test_a_resumed_run_may_change_its_recipe(finished: Path, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {"gamma": 9.0, "ada_kinds": "gc", "learning_rate": 0.02, "discriminator_learning_rate": 0.03, "ada_p": 0.4}
    _train(replace(CONFIG, **recipe), finished / "data", stopped)  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert "gamma changes from 0.1 to 9.0\n" in printed
    assert "ada_kinds changes from 'bgc' to 'gc'\n" in printed
    assert "goes on from state-000000012.pt at 0.012 kimg, to 0.024 kimg\n" in printed
    state = read_state(stopped / "state-000000024.pt")
    assert state["augment_p"] == pytest.approx(0.4)
    rates = [state[f"{name}_optimizer"]["param_groups"][0]["lr"] for name in ("generator", "discriminator")]
    assert rates == pytest.approx([0.02 * 4 / 5, 0.03 * 2 / 3])  # lazy regularisation at intervals 4 and 2
    unchanged = (finished / "run" / "checkpoint-000000024.safetensors").read_bytes()
    assert (stopped / "checkpoint-000000024.safetensors").read_bytes() != unchanged


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_latents_and_sample_grids_are_independent(seed: int) -> None:
    """With one random stream, the latents of the default run's grids would be the mapping network's weights."""
    state = TrainingState(tiny_config(seed=seed), CPU)
    weights = [parameter.detach().flatten() for parameter in state.generator.parameters()]
    weights += [values * 0.01 for values in weights]  # the mapping network's weights are divided by 0.01
    latents = torch.randn(64, generator=state.random)
    grid = torch.randn(64, generator=torch.Generator().manual_seed(sample_grids.SEED))
    for values in (*weights, latents):
        count = min(64, len(values))
        assert not torch.allclose(values[:count], grid[:count])
        assert values is latents or not torch.allclose(values[:count], latents[:count])


def test_it_learns(tmp_path: Path) -> None:
    """Images of one color: the generated ones get two and a half times closer to it in 40 steps."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (200 + i, 60, 120)).save(folder / f"{i}.png")
    config = tiny_config(
        batch=8, learning_rate=0.02, total_kimg=0.32, snapshot_kimg=2.0, log_kimg=2.0,
        augmentation="none", path_length_weight=0.0,
    )  # fmt: skip
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))

    def distance(generator: Generator) -> float:
        images = draw_samples(generator, z, torch.zeros(16, 0), 8)
        return float(np.abs(images.mean(axis=(1, 2)) - [201.5, 60, 120]).mean())

    before = distance(TrainingState(config, CPU).generator_ema)
    after = distance(Checkpoint.open(_train(config, folder, tmp_path / "run")).load())
    assert after < before / 2.5, (before, after)


@pytest.mark.parametrize(
    "overrides",
    [
        {"loss": "r3gan", "r1_interval": 1, "path_length_weight": 0.0},
        {"precision": "bf16"},
        {"augmentation": "diffaugment"},
        {"augmentation": "none", "gamma": 0.0},
    ],
)
def test_every_way_to_train_changes_both_networks(tmp_path: Path, overrides: dict[str, object]) -> None:
    config = tiny_config(total_kimg=0.008, **overrides)
    begun = TrainingState(config, CPU)
    _train(config, tmp_path / "data", tmp_path / "run")
    state = read_state(max((tmp_path / "run").glob("state-*.pt")))
    for name, network in (("generator", begun.generator), ("discriminator", begun.discriminator)):
        weights = {key: value for key, value in network.state_dict().items() if key.endswith("weight")}
        changed = [key for key, value in weights.items() if not torch.equal(value, state[name][key])]
        assert len(changed) == len(weights)
        assert all(value.isfinite().all() for value in state[name].values())


@pytest.mark.parametrize(
    ("overrides", "totals"),
    [
        ({}, [4, 2, 3]),
        ({"microbatch": 2, "path_length_weight": 0.0}, [6, 4, 6]),
        ({"microbatch": 1, "path_length_weight": 0.0, "loss": "r3gan", "r1_interval": 1}, [16, 16, 16]),
        ({"microbatch": 1, "gamma": 0.0}, [10, 8, 8]),
    ],
)
def test_a_step_tells_its_passes(overrides: dict[str, object], totals: list[int]) -> None:
    """With the penalties that are due: here the gradient's every second step, that of path lengths every fourth."""
    config = tiny_config(**overrides)
    told: list[tuple[int, int]] = []
    step = TrainingStep(TrainingState(config, CPU), Distributed(), lambda *passes: told.append(passes))
    for total in totals:
        told.clear()
        step(torch.zeros(config.batch, 3, 8, 8), torch.zeros(config.batch, 0))
        assert told == [(done, total) for done in range(1, total + 1)]


def test_the_first_step_of_a_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    _train(tiny_config(total_kimg=0.012), tmp_path / "data", tmp_path / "run")
    told = re.findall("first step: (.*)", capsys.readouterr().err)
    assert told == [f"{done} of 4 backward passes" for done in (1, 2, 3, 4)]


def test_parts_are_told_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    tell = progress.PartTeller("work", "parts", lambda: now)
    for done in range(1, 11):
        now += 9.0
        tell(done, 10)
    assert capsys.readouterr().err.splitlines() == [f"work: {done} of 10 parts" for done in (3, 6, 9)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile reads it while tracing
def test_compiled_networks_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced but not compiled, which would take a minute and round differently."""
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: plain(function, backend="aot_eager"))
    states = []
    for compiled in (False, True):
        config = tiny_config(compile=compiled, total_kimg=0.008, precision="fp32")
        _train(config, tmp_path / "data", tmp_path / str(compiled))
        states.append(read_state(tmp_path / str(compiled) / "state-000000008.pt"))
    for name in ("generator", "discriminator"):
        for key, tensor in states[0][name].items():
            torch.testing.assert_close(states[1][name][key], tensor, rtol=1e-3, atol=1e-4, msg=key)


def test_the_parts_of_a_step_that_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def record(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(getattr(function, "__name__", type(function).__name__))
        return function

    monkeypatch.setattr(torch, "compile", record)
    TrainingStep(TrainingState(tiny_config(compile=True), CPU), Distributed())
    assert sorted(compiled) == ["Discriminator", "_run_lines", "_run_pixels"]


def test_a_conditional_network_trains_on_labels(tmp_path: Path) -> None:
    labels = {f"{i:03d}.png": i % 2 for i in range(6)}
    data = write_zip(tmp_path / "a.zip", write_images(tmp_path / "images"), labels)
    config = tiny_config(learning_rate=0.01, total_kimg=0.012)
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


def test_classes_are_rows_of_the_grid_and_their_names_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample_grids, "MAX_GRID", (4, 6))
    labels = {f"{i:03d}.png": i // 2 for i in range(6)}
    write_zip(tmp_path / "a.zip", write_images(tmp_path / "images"), labels, ["ape", "cat", "dog"])
    arguments = ["--data", str(tmp_path / "a.zip"), *TINY, "--total-kimg", "0"]
    assert main(["train", *arguments, "--outdir", str(tmp_path / "none")]) == 0
    said = "ignores the 3 of the data (ape, cat, dog); --classes 3 uses them"
    assert said in capsys.readouterr().err
    assert main(["train", *arguments, "--outdir", str(tmp_path / "run"), "--classes", "3"]) == 0
    assert said not in capsys.readouterr().err
    with Image.open(tmp_path / "run" / "grid-000000000.png") as image:
        assert image.height == 3 * 8
        grid = np.asarray(image)
    names = grid[:, 4 * 8 :]
    assert 20 < names.shape[1] < 100
    assert all((row < 128).any() for row in np.split(names, 3))
    path = tmp_path / "run" / "checkpoint-000000000.safetensors"
    assert Checkpoint.open(path).class_names == ["ape", "cat", "dog"]
    for choice in ("2", "dog"):
        assert main(["render", str(path), "--class", choice, "--output", str(tmp_path / f"{choice}.png")]) == 0
    assert (tmp_path / "2.png").read_bytes() == (tmp_path / "dog.png").read_bytes()
    assert main(["render", str(path), "--class", "cow"]) == 2
    assert "class: this model needs a class ape, cat, dog, not cow" in capsys.readouterr().err
    assert main(["render", str(path)]) == 2
    assert "class: this model needs a class ape, cat, dog\n" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run_and_spoils_no_snapshot(
    finished: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = stylegan2.generator_loss, iter(range(100))
    monkeypatch.setattr(
        stylegan2, "generator_loss", lambda logits: plain(logits) * (float("nan") if next(calls) == 1 else 1.0)
    )
    with pytest.raises(InputError, match=r"loss_generator: is nan at step 4; .* gamma"):
        _train(replace(CONFIG, log_kimg=0.02), finished / "data", stopped)
    assert max(stopped.glob("state-*.pt")).name == "state-000000012.pt"
    assert max(stopped.glob("checkpoint-*")).name == "checkpoint-000000012.safetensors"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_corrupt_image_ends_the_run_with_everything_saved(tmp_path: Path, workers: int) -> None:
    """Its header is whole and data.png does not show it, so it is found when its turn comes."""
    folder = write_images(tmp_path / "data", count=20)
    config = tiny_config(total_kimg=0.2, snapshot_kimg=1.0)
    first, second = (set(batch) for batch in islice(shuffled_batches(20 * 2, config.batch, config.seed, start=0), 2))
    shown = torch.randperm(20, generator=torch.Generator().manual_seed(sample_grids.SEED)).tolist()[:2]
    number = next(i % 20 for i in second if i % 20 not in {*shown, *(j % 20 for j in first)})
    image = folder / f"{number:03d}.png"
    content = image.read_bytes()
    image.write_bytes(content[:60] + bytes(len(content) - 60))
    with pytest.raises(InputError, match=f"data: {image.name} cannot be read"):
        _train(config, folder, tmp_path / "run", workers=workers)
    (state,) = (tmp_path / "run").glob("state-*.pt")
    assert state.name == "state-000000004.pt"
    assert (tmp_path / "run" / "checkpoint-000000004.safetensors").exists()


def test_a_spoilt_log_does_not_stop_a_run(finished: Path, stopped: Path) -> None:
    log = stopped / "metrics.jsonl"
    log.write_bytes(b'\xff\xfe{\n[1]\n{"no": "kimg"}\n' + b"[" * 100_000 + b"\n" + log.read_bytes())
    _train(CONFIG, finished / "data", stopped)
    assert _logged_kimg(stopped) == [0.008, 0.012, 0.016, 0.024]


@pytest.mark.parametrize("content", [b"{}", b"[]", b"\xff", b'{"data": {"digest": "", "path": ""}, "config": {}}'])
def test_a_spoilt_run_json_is_named(finished: Path, stopped: Path, content: bytes) -> None:
    run = stopped / "run.json"
    without_sessions = {name: value for name, value in json.loads(run.read_bytes()).items() if name != "sessions"}
    for spoilt in (content, json.dumps(without_sessions).encode()):
        run.write_bytes(spoilt)
        with pytest.raises(InputError, match=r"outdir: .*run\.json is not a valid run\.json; use another outdir"):
            _train(CONFIG, finished / "data", stopped)


def test_a_corrupt_image_is_found_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_images(tmp_path / "data", count=20) / "011.png"
    content = image.read_bytes()
    image.write_bytes(content[:60] + bytes(len(content) - 60))
    arguments = ["train", "--data", str(tmp_path / "data"), "--outdir", str(tmp_path / "run"), *TINY]
    assert main([*arguments, "--total-kimg", "0.008"]) == 2
    assert "data: 011.png cannot be read as an image" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--total-kimg", "0", "--no-check-images", "--seed", "1"]) == 0
    image.write_bytes(content)
    shutil.rmtree(tmp_path / "run")
    assert main([*arguments, "--total-kimg", "0.008"]) == 0


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    finished: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    saved = (stopped / "state-000000012.pt").read_bytes()
    with monkeypatch.context() as context:
        context.setattr("model.training.state.write_atomically", fail)
        with pytest.raises(OSError, match=r"state-000000024\.pt"):
            _train(CONFIG, finished / "data", stopped)
    assert {path.name: path.read_bytes() for path in stopped.glob("state-*")} == {"state-000000012.pt": saved}
    resumed = _train(CONFIG, finished / "data", stopped)
    assert resumed.read_bytes() == (finished / "run" / "checkpoint-000000024.safetensors").read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_line_on_stderr(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the state is the largest of them."""
    data, outdir = write_images(tmp_path / "data"), tmp_path / "run"
    arguments = ["--data", str(data), "--outdir", str(outdir), *TINY]
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


def test_training_runs_on_a_bare_machine(tmp_path: Path) -> None:
    """With nothing but torch, numpy, pillow and safetensors."""
    arguments = [
        "--data", str(write_images(tmp_path / "data")), "--outdir", str(tmp_path / "run"), *TINY,
        "--total-kimg", "0.008", "--log-kimg", "0.008",
    ]  # fmt: skip
    missing = ["tqdm", "tensorboard", "matplotlib", "torch_fidelity", "torchvision", "pydantic", "triton"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
        "import model.training.profiling.benchmark; "
        f"from model.training.__main__ import main; main({arguments!r})"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert re.search("0.008 of 0.008 kimg, [0-9]+ s, 0 s left, loss_generator", finished.stderr)
    names = {path.suffix for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", ".json", ".jsonl", ".png", ".pt", ".safetensors", ".txt"}
    assert not (tmp_path / "run" / "curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "batch: must be from 1"),
        (["--batch", "6"], "multiple of minibatch_group"),
        (["--microbatch", "3"], "microbatch: 3 does not divide"),
        (["--seed", "-1"], "seed: must be from 0 to 4294967295, not -1"),
        (["--gamma", "nan"], "gamma: must be from 0"),
        (["--freeze-d", "60"], "freeze_d: must be at most 10"),
        (["--resolution", "24"], "must be a power of two"),
        (["--resolution", "16"], "is 8×8, not 16×16"),
        (["--classes", "3", "--resolution", "8"], "has no classes"),
        (["--device", "tpu"], "device: must be auto"),
        (["--device", "cuda:99"], "device: cuda:99"),
        (["--preset", "huge"], "--preset"),
        (["--data", "nowhere"], "data: nowhere does not exist"),
        (["--metrics", "beauty", "--resolution", "8"], "metrics: must be of fid, kid, pr, scale"),
        (["--transfer", "nowhere.safetensors"], "checkpoint: nowhere.safetensors is not a file"),
    ],
)
def test_train_command_names_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    data = write_images(tmp_path / "data")
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
