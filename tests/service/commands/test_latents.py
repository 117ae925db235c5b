"""Several seeds, sheets, files of latents, style mixing and directions on the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import Checkpoint
from model.latents import direction_files, direction_names
from model.latents.direction import Direction
from model.latents.files import write_latent_file
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from service.cli import main
from service.imaging.contact_sheet import cell_box, contact_sheet
from tests.kernels.networks import TINY, random_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pixels(path: str) -> NDArray[np.uint8]:
    return np.array(Image.open(path))


def cell(sheet: NDArray[np.uint8], index: int, columns: int, width: int = 16, height: int = 16) -> NDArray[np.uint8]:
    left, top = cell_box(index, columns, width, height)
    return sheet[top : top + height, left : left + width]


def creps(command: str, checkpoint: Checkpoint, *options: str) -> int:
    return main([command, str(checkpoint.path), *options, "--device", "cpu"])


def test_several_seeds_are_files_and_a_sheet_of_their_pixels(checkpoint: Checkpoint, folder: Path) -> None:
    given = ("--psi", "0.7", "--size", "30x20")
    assert creps("render", checkpoint, "--seeds", "3-5,12000", "--outdir", "out", "--sheet", "3x2", *given) == 0
    names = ["seed0003.png", "seed0004.png", "seed0005.png", "seed12000.png"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [*names, "sheet.png"]
    sheet = pixels("out/sheet.png")
    for index, name in enumerate(names):
        seed = name.removeprefix("seed").removesuffix(".png")
        assert creps("render", checkpoint, "--seed", seed, "--output", "alone.png", *given) == 0
        assert Path("alone.png").read_bytes() == (folder / "out" / name).read_bytes()
        np.testing.assert_array_equal(cell(sheet, index, 3, 30, 20), pixels("alone.png"))


def test_style_mixing(checkpoint: Checkpoint) -> None:
    assert creps("mix", checkpoint, "--rows", "1,2", "--cols", "3", "--styles", "0-1,4", "--output", "m.png") == 0
    sheet = pixels("m.png")
    for index, seed in ((1, "3"), (2, "1"), (4, "2")):
        assert creps("render", checkpoint, "--seed", seed, "--output", "alone.png") == 0
        np.testing.assert_array_equal(cell(sheet, index, 2), pixels("alone.png"))
    legend = cell(sheet, 0, 2)
    assert legend[-1].min() == 255  # white, with text; a missing image would be grey
    assert legend.min() < 128
    mixed = cell(sheet, 3, 2)
    assert (mixed != cell(sheet, 1, 2)).any()
    assert (mixed != cell(sheet, 2, 2)).any()


def test_mixing_all_layers_gives_the_column(checkpoint: Checkpoint) -> None:
    assert creps("mix", checkpoint, "--rows", "1", "--cols", "3", "--styles", f"0-{TINY.num_ws - 1}") == 0
    sheet = pixels("sheet.png")
    np.testing.assert_array_equal(cell(sheet, 3, 2), cell(sheet, 1, 2))


@pytest.mark.parametrize("option", ["--latent", "--projected-w"])
def test_a_file_of_styles_is_the_seed(option: str, checkpoint: Checkpoint, folder: Path) -> None:
    ws = layer_styles(TINY, checkpoint.load().mapping, Latent(seed=7))
    write_latent_file(folder / "projected_w.npz", ws[0].numpy())
    assert creps("render", checkpoint, option, "projected_w.npz") == 0
    assert creps("render", checkpoint, "--seed", "7") == 0
    np.testing.assert_array_equal(pixels("projected_w.png"), pixels("seed7.png"))


def test_a_mix_of_seeds_and_files(checkpoint: Checkpoint, folder: Path) -> None:
    mapping = checkpoint.load().mapping
    of_seven, of_eight = (layer_styles(TINY, mapping, Latent(seed=seed))[0].numpy() for seed in (7, 8))
    write_latent_file(folder / "8.npz", of_eight)
    write_latent_file(folder / "mean.npz", (0.75 * of_seven + 0.25 * of_eight).astype(np.float32))
    assert creps("render", checkpoint, "--mix", "7=3", "--mix", "8.npz=1", "--psi", "0.7") == 0
    assert creps("render", checkpoint, "--latent", "mean.npz", "--psi", "0.7") == 0
    assert np.abs(pixels("mix.png").astype(int) - pixels("mean.png")).max() <= 1
    assert creps("render", checkpoint, "--mix", "7=1", "--output", "alone.png") == 0
    assert creps("render", checkpoint, "--seed", "7") == 0
    np.testing.assert_array_equal(pixels("alone.png"), pixels("seed7.png"))


@pytest.mark.slow
def test_directions_edit_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["directions", "demo", "--json", "--sheet", "d.png", "--strongest", "2", "--seed", "2"]) == 0
    directions = json.loads(capsys.readouterr().out)
    strongest = sorted(directions, key=lambda each: -each["effect"])[:2]
    sheet = pixels("d.png")
    assert main(["render", "demo", "--seed", "2", "--output", "plain.png"]) == 0
    for row, direction in enumerate(strongest):
        np.testing.assert_array_equal(cell(sheet, 5 * row + 2, 5, 64, 64), pixels("plain.png"))  # amount 0
        assert main(["render", "demo", "--seed", "2", "--edit", f"{direction['name']}=-3", "--output", "e.png"]) == 0
        np.testing.assert_array_equal(cell(sheet, 5 * row, 5, 64, 64), pixels("e.png"))
        changed = np.abs(pixels("e.png").astype(int) - pixels("plain.png")).mean()
        assert changed > 5  # levels


@pytest.fixture
def known(checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A copy of the checkpoint that has two directions."""
    copied = Checkpoint.open(Path(shutil.copy(checkpoint.path, folder / "known.safetensors")))
    first, second = (Direction(name, (1, 2), np.eye(TINY.w_dim)[i], 2.0) for i, name in enumerate(("sefa:0", "pca:0")))
    monkeypatch.setattr(direction_files, "find_directions", lambda _: [first, second])
    return copied


def test_directions_can_be_named(known: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert creps("directions", known, "--name", "sefa:0=smile", "--name", "pca:0=age") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  smile")
    assert creps("directions", known, "--name", "pca:0=", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {each["name"]: each["label"] for each in listed} == {"sefa:0": "smile", "pca:0": None}
    for direction in ("smile", "sefa:0"):
        assert creps("render", known, "--edit", f"{direction}=2", "--output", f"{direction}.png") == 0
    assert Path("smile.png").read_bytes() == Path("sefa:0.png").read_bytes()


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["sefa:0"], "--name: must be DIRECTION=NAME"),
        (["sefa:1=smile"], "directions: this model has no direction sefa:1; it has sefa:0, pca:0"),
        (["sefa:0=smile", "pca:0=smile"], "is called smile, too"),
        (["sefa:0=pca:0"], "sefa:0: must be called by"),
        (["smile=sefa:0"], "smile: must be the name of a direction"),
    ],
)
def test_names_that_are_refused(
    names: list[str], error: str, known: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = creps("directions", known, *(f"--name={name}" for name in names))
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    assert error in capsys.readouterr().err
    assert not direction_names.names_path(known).exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("render --seeds 0-3", "--outdir"),
        ("render --seeds 0-3 --sheet 3x1", "sheet: of 3×1 has no room for 4"),
        ("render --seeds 0-3 --seed 1", "seeds"),
        ("render --seeds 3-0 --outdir o", "--seeds"),
        ("render --seeds 0-4294967295 --outdir o", "--seeds"),
        ("render --seeds 0-1000000 --outdir o", "--seeds"),
        ("render --seeds 0-3 --outdir o --format dzi", "seeds: are for png"),
        ("render --seeds 0-99 --sheet 10x10 --size 2000", "sheet: would have"),
        ("render --seed 1 --outdir o", "outdir: is for --seeds"),
        ("render --mix 2", "--mix: must be SEED=WEIGHT"),
        ("render --mix 2=1 --mix 3=-1", "mix: its weights must have a finite sum other than 0"),
        ("render --mix 2=1 --seed 3", "mix: cannot be given together with --seed"),
        ("render --mix 2=nan", "--mix: must be a finite number"),
        ("render --latent missing.npz", "missing.npz: No such file"),
        ("render --edit sefa:0=6", "edit: must be from -5 to 5"),
        ("render --edit sefa:0", "--edit: must be NAME=AMOUNT"),
        ("render --edit smile=1", "edit: must be like sefa:2"),
        ("mix --styles 0-7", "styles: must be from 0 to 6"),
        ("mix --styles 0 --output m.gif", "output: of a sheet must end in"),
        ("directions --psi 3", "psi: must be from -2 to 2"),
    ],
)
def test_bad_options_are_one_line(
    options: str, error: str, checkpoint: Checkpoint, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = options.split()
    try:
        status = creps(command, checkpoint, *rest)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    captured = capsys.readouterr().err
    assert status == 2
    assert error in captured
    assert captured.count("\n") == 1
    assert not list(folder.iterdir())


def test_labels_do_not_touch_the_images() -> None:
    image = np.random.RandomState(0).randint(0, 256, (20, 12, 3), np.uint8)
    sheet = contact_sheet([image, None, image], 2, ["a label that is far too long", "Äß", "-1"])
    np.testing.assert_array_equal(cell(sheet, 0, 2, 12, 20), image)
    np.testing.assert_array_equal(cell(sheet, 2, 2, 12, 20), image)
    assert len(np.unique(cell(sheet, 1, 2, 12, 20))) == 1


def test_projection(checkpoint: Checkpoint, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert creps("render", checkpoint, "--seed", "3", "--output", "a.png") == 0
    capsys.readouterr()
    options = ["--checkpoint", str(checkpoint.path), "--steps", "5", "--device", "cpu"]
    assert main(["project", "a.png", *options]) == 0
    assert " dB" in capsys.readouterr().out
    assert np.load(folder / "a.npz")["w"].shape == (1, TINY.num_ws, TINY.w_dim)
    assert creps("render", checkpoint, "--latent", "a.npz", "--output", "b.png") == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("missing.png", "missing.png: No such file"),
        ("a.txt", "picture: cannot be read"),
        ("a.txt --steps 0", "steps: must be from 1 to 10000"),
        ("a.txt --output a.png", "output: must end in .npz"),
        ("a.txt --class 1", "class_index: this model has no classes"),
    ],
)
def test_projections_that_are_refused(
    options: str, error: str, checkpoint: Checkpoint, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_text("no picture")
    assert main(["project", *options.split(), "--checkpoint", str(checkpoint.path)]) == 2
    assert error in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
