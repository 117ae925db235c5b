"""Training with patches: what is shown, what is drawn, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.data.dataset import ImageDataset
from model.data.pyramid import Patch
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.loop import train
from model.training.patches import choose_patches, draw_patches, place_of, samples_per_pixel
from model.training.presets import PRESETS
from model.training.profiling.estimate import training_flops
from model.training.state import TrainingState, read_state
from model.training.synthesis import TrainingSynthesis
from model.training.transfer import TransferSource
from model.viewport import Viewport
from service.cli import main
from tests.model.data.images import tiny_config, write_images

CPU = torch.device("cpu")

TINY = ["--preset", "tiny-32", "--resolution", "8", "--device", "cpu", "--metrics", "none"]
"""Options of the command for the smallest run."""


def patch_config(**overrides: Any) -> TrainingConfig:
    generator = replace(tiny_config().generator, max_scale=4.0)
    return tiny_config(**({"generator": generator, "patches": True, "seed": 3} | overrides))


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise at two sizes and aspects, which keep them."""
    folder = tmp_path_factory.mktemp("data")
    for i, size in enumerate([(32, 40), (20, 20), (64, 32)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    command = ["dataset", str(folder), str(folder / "set.zip"), "--resolution", "8", "--keep-size"]
    assert main(command) == 0
    return folder / "set.zip"


def test_whole_images_come_first_and_scales_are_log_uniform() -> None:
    config = patch_config(batch=400, whole=0.25)
    sides = [32] * 200 + [16] * 200
    patches = choose_patches(config, sides, first=0)
    assert patches[:100] == [Patch(8, 0, 0)] * 100
    for patch, side in zip(patches[100:], sides[100:], strict=True):
        assert 8 <= patch.side <= side
        assert 0 <= min(patch.x, patch.y) <= max(patch.x, patch.y) <= patch.side - 8
    scales = np.log2([patch.side / 8 for patch in patches])
    assert np.median(scales[100:200]) == pytest.approx(1.0, abs=0.3)  # of 0 … 2
    assert np.median(scales[200:]) == pytest.approx(0.5, abs=0.15)  # of 0 … 1
    assert choose_patches(config, sides, first=0) == patches
    assert choose_patches(config, sides, first=400) != patches
    assert choose_patches(replace(config, seed=4), sides, first=0) != patches


def test_places_are_scales_and_centres() -> None:
    found = place_of([Patch(8, 0, 0), Patch(32, 0, 24), Patch(16, 4, 4)], 8)
    assert found == pytest.approx(np.array([[0, 0.5, 0.5], [2, 0.125, 0.875], [1, 0.5, 0.5]]))


@pytest.mark.parametrize(
    ("side", "supersampling", "expected"), [(8, 4, 4), (8, 2, 2), (12, 4, 3), (15, 4, 3), (16, 4, 1), (32, 4, 1)]
)
def test_samples_where_detail_is_finer_than_half_a_pixel(side: int, supersampling: int, expected: int) -> None:
    assert samples_per_pixel(patch_config(supersampling=supersampling), Patch(side, 0, 0)) == expected


@pytest.mark.parametrize("chunk_pixels", [0, 128])
def test_patches_and_their_gradients_are_those_of_crops_of_large_images(chunk_pixels: int) -> None:
    """In fp64. The large images are drawn whole, on the grid of the renderer, averaged and cut."""
    config = patch_config(batch=5, minibatch_group=1, precision="fp32")
    patches = [Patch(8, 0, 0), Patch(29, 3, 20), Patch(12, 4, 1), Patch(32, 24, 0), Patch(8, 0, 0)]
    torch.manual_seed(0)
    generator = Generator(config.generator).double()
    ws = torch.randn(5, config.generator.num_ws, 8, dtype=torch.float64).requires_grad_()
    weights = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    crops = []
    for i, patch in enumerate(patches):
        m, whole = samples_per_pixel(config, patch), Viewport.resolve(patch.side, patch.side)
        rows, columns = (
            torch.from_numpy(axis(0, patch.side * m, 8, supersampling=m)) for axis in (whole.rows, whole.columns)
        )
        image = F.avg_pool2d(generator.synthesis(ws[i : i + 1], rows, columns), m)
        crops.append(image[:, :, patch.y : patch.y + 8, patch.x : patch.x + 8])
    expected = torch.cat(crops)
    drawn = draw_patches(TrainingSynthesis(generator.synthesis, "fp32", chunk_pixels), ws, patches, config)
    torch.testing.assert_close(drawn, expected, rtol=1e-9, atol=1e-9)
    parameters = [ws, *generator.synthesis.parameters()]
    gradients = [torch.autograd.grad((images * weights).sum(), parameters) for images in (drawn, expected)]
    for found, wanted in zip(*gradients, strict=True):
        assert (found - wanted).norm() <= 1e-9 * wanted.norm()


def test_a_resumed_run_equals_one_that_was_not_stopped(data: Path, tmp_path: Path) -> None:
    config = patch_config(mirror=True)
    dataset = ImageDataset(data, 8, config.mirror)
    whole = train(config, dataset, tmp_path / "whole", CPU)
    train(replace(config, total_kimg=0.016), dataset, tmp_path / "run", CPU)
    resumed = train(config, dataset, tmp_path / "run", CPU)
    assert resumed.read_bytes() == whole.read_bytes()
    assert Checkpoint.open(whole).config.max_scale == 4.0
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(-1 <= line["sign_real_patches"] <= 1 for line in lines)
    text = (tmp_path / "whole" / "log.txt").read_text()
    assert "3 images of 20² to 32²" in text
    assert "patches: 2 of 4 images are parts of images of 8² to 32², 2 whole ones, with up to 4×4 samples" in text


@pytest.mark.slow
def test_readers_in_other_processes_read_the_same_patches(data: Path, tmp_path: Path) -> None:
    runs = [train(patch_config(), ImageDataset(data, 8, True), tmp_path / str(n), CPU, workers=n) for n in (0, 2)]
    assert runs[0].read_bytes() == runs[1].read_bytes()


def test_a_network_of_whole_images_goes_on_with_patches(data: Path, tmp_path: Path) -> None:
    """The usual way, by the commands, and back."""
    options = [*TINY, "--data", str(data), "--total-kimg", "0.008"]
    assert main(["train", *options, "--outdir", str(tmp_path / "whole")]) == 0
    state = tmp_path / "whole" / "state-000000008.pt"
    patches = ["--patches", "--max-scale", "4", "--transfer", str(state), "--outdir", str(tmp_path / "patches")]
    assert main(["train", *options, *patches]) == 0
    source = TransferSource(tmp_path / "patches" / "state-000000008.pt")
    trained = TrainingConfig.from_dict(read_state(source.path)["config"])
    assert (trained.patches, trained.generator.max_scale, source.config.max_scale) == (True, 4.0, 4.0)
    whole = replace(trained, patches=False, generator=replace(trained.generator, max_scale=1.0))
    source.check(whole)
    source.load(TrainingState(whole, CPU))
    begun = TrainingState(trained, CPU)
    TransferSource(state).load(begun)
    expected = read_state(state)["discriminator"]
    assert all(torch.equal(tensor, begun.discriminator.state_dict()[name]) for name, tensor in expected.items())
    picture = tmp_path / "a.png"
    checkpoint = tmp_path / "patches" / "checkpoint-000000008.safetensors"
    assert main(["render", str(checkpoint), "--seed", "1", "--size", "32x32", "--output", str(picture)]) == 0


@pytest.mark.slow
def test_presets_with_patches(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, base in (("small-64-patches", "small-64"), ("ffhq-512-patches", "ffhq-512")):
        config, whole = PRESETS[name].config, PRESETS[base].config
        assert config.patches
        assert replace(config.generator, max_scale=1.0) == whole.generator
        assert training_flops(config) > training_flops(whole)
    arguments = ["--preset", "small-64-patches", "--resolution", "8", "--data", str(data), "--max-scale", "4"]
    assert main(["train", "--dry-run", *arguments, "--device", "cpu", "--batch", "4"]) == 0
    assert TrainingConfig.from_dict(json.loads(capsys.readouterr().out)).generator.max_scale == 4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patches"], "max_scale: must be above 1 for patches"),
        (["--max-scale", "2"], "max_scale: is for networks that are trained with patches"),
        (["--patches", "--max-scale", "0.5"], "max_scale: must be a number from 1 to 1024, not 0.5"),
        (["--patches", "--max-scale", "nan"], "max_scale: must be a number from 1 to 1024"),
        (
            ["--patches", "--max-scale", "5"],
            "max_scale: must be at most 4, not 5: the largest image of the data has 32",
        ),
        (["--patches", "--max-scale", "4", "--whole", "0"], "whole: 0 leaves a batch of 8 without whole images"),
        (["--patches", "--max-scale", "4", "--whole", "0.99"], "whole: 0.99 leaves a batch of 8 without"),
        (["--patches", "--max-scale", "4", "--whole", "2"], "whole: must be from 0 to 1, not 2"),
        (["--patches", "--max-scale", "2", "--resolution", "32"], "is 20×20, not 32×32 or more; creps dataset"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    arguments = ["train", *TINY, "--data", str(data), "--outdir", str(tmp_path / "run"), *options]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_images_of_one_size_have_no_patches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(tmp_path / "data")
    options = [*TINY, "--data", str(data), "--outdir", str(tmp_path / "run"), "--patches", "--max-scale", "2"]
    assert main(["train", *options]) == 2
    error = capsys.readouterr().err
    assert "data: has images of 8² only, but patches take larger ones; creps dataset ORIGINALS" in error


def test_the_default_scale_is_not_written_and_is_read() -> None:
    """Checkpoints of whole images stay readable for earlier versions."""
    config = GeneratorConfig(8)
    assert "max_scale" not in config.to_dict()
    assert GeneratorConfig.from_dict(replace(config, max_scale=2.0).to_dict()).max_scale == 2.0
