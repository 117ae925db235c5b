"""Data sets whose images keep their own size: how they are prepared, read and checked."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.data.dataset import ImageDataset
from model.data.pyramid import TILE, Patch, StoredImage, average_areas, cut_levels
from model.errors import InputError
from service.cli import main
from tests.model.data.images import write_images


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three sizes and aspects, and one that is too small."""
    folder = tmp_path_factory.mktemp("source")
    for name, size in {"a.png": (600, 640), "b.png": (90, 40), "c.png": (31, 50), "d.png": (256, 256)}.items():
        _noise(*size).save(folder / name)
    return folder


@pytest.fixture(name="data", scope="module")
def _data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "set.zip"
    assert main(["dataset", str(source), str(path), "--resolution", "32", "--keep-size"]) == 0
    return path


def test_images_keep_their_size_and_small_ones_are_skipped(
    source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["dataset", str(source), str(tmp_path / "set"), "--resolution", "32", "--keep-size"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'set'}: 3 images of 40² to 600², 1 skipped\n"
    assert "skipped c.png: its square is 31×31, smaller than 32×32\n" in printed.err
    names = [f"00000/img0000000{i}.png" for i in range(3)]
    expected = dict(zip(names, [600, 40, 256], strict=True))
    with zipfile.ZipFile(data) as archive:
        assert dict(json.loads(archive.read("dataset.json"))["sizes"]) == expected
        assert {name for name in archive.namelist() if name.startswith("00000/img00000001")} == {names[1]}
        with archive.open("00000/img00000000/600/2-1.png") as file, Image.open(file) as tile:
            assert tile.size == (256, 600 - 512)
    folder, zipped = ImageDataset(tmp_path / "set", 32), ImageDataset(data, 32)
    assert zipped.names == folder.names == names
    assert zipped.sides == [600, 40, 256]
    for i in range(3):
        assert torch.equal(folder[i][0], zipped[i][0])


def test_classes_go_with_the_images(source: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    for number, name in enumerate(("cat", "dog")):
        (labelled / name).mkdir(parents=True)
        (labelled / name / "x.png").write_bytes((source / f"{'ad'[number]}.png").read_bytes())
    command = ["dataset", str(labelled), str(tmp_path / "set.zip"), "--resolution", "8", "--keep-size"]
    assert main([*command, "--class-folders"]) == 0
    dataset = ImageDataset(tmp_path / "set.zip", 8)
    assert (dataset.labels, dataset.class_names, dataset.sides) == ([0, 1], ["cat", "dog"], [600, 256])


def test_whole_images_may_be_padded(source: Path, tmp_path: Path) -> None:
    command = ["dataset", str(source), str(tmp_path / "set.zip"), "--resolution", "32", "--keep-size", "--pad"]
    assert main([*command, "--match", "b"]) == 0
    dataset = ImageDataset(tmp_path / "set.zip", 32)
    assert dataset.sides == [90]
    whole = _all_pixels(dataset, 0, 32)
    with Image.open(source / "b.png") as image:
        assert (whole[25:65] == np.asarray(image)).all()
    assert (whole[:25] == 255).all()


def _all_pixels(dataset: ImageDataset, index: int, step: int) -> np.ndarray:
    """An image at its own size, put together from patches."""
    side = dataset.side(index)
    pixels = np.zeros((side, side, 3), np.uint8)
    starts = [*range(0, side - step, step), side - step]
    for y in starts:
        for x in starts:
            patch, _ = dataset.read(index, Patch(side, x, y))
            pixels[y : y + step, x : x + step] = patch.permute(1, 2, 0).numpy()
    return pixels


def test_patches_at_full_size_are_the_image_itself(source: Path, data: Path) -> None:
    dataset = ImageDataset(data, 32)
    with Image.open(source / "a.png") as image:
        expected = np.asarray(image)[20:620]
    assert (_all_pixels(dataset, 0, 32) == expected).all()


@pytest.mark.parametrize("own", [512, 600, 601])
@pytest.mark.parametrize("side", [32, 75, 128, 150, 300, 333, 511])
def test_patches_are_averages_of_the_image(own: int, side: int) -> None:
    """Compared with the exact averages of a smooth image; levels are rounded to 8 bits."""
    y, x = np.mgrid[:own, :own] / own
    waves = np.stack([np.sin(7 * x + 5 * y), np.cos(9 * x * y), np.sin(4 * x - 11 * y)], axis=-1)
    pixels = (waves * 120 + 128).round().astype(np.uint8)
    tiles = {tile.name: np.asarray(part) for tile, part in cut_levels(Image.fromarray(pixels))}
    stored = StoredImage(".png", own, TILE)
    edges = np.arange(side + 1) * (own / side)
    exact = average_areas(average_areas(pixels, edges, 0), edges, 1)
    for x0, y0 in ((0, 0), (side - 32, 0), ((side - 32) // 2, (side - 32) // 3), (side - 32, side - 32)):
        found = stored.read(Patch(side, x0, y0), 32, lambda tile: tiles[tile.name])
        assert np.abs(found - exact[y0 : y0 + 32, x0 : x0 + 32]).max() < 2.1


@given(side=st.integers(1, 40), parts=st.integers(1, 40))
def test_areas_keep_the_mean(side: int, parts: int) -> None:
    values = np.random.default_rng(0).random((side, 2))
    averages = average_areas(values, np.arange(parts + 1) * (side / parts), 0)
    assert averages.mean(axis=0) == pytest.approx(values.mean(axis=0))
    assert averages.min() >= values.min() - 1e-9


def test_mirrored_patches_lie_at_the_mirrored_place(data: Path) -> None:
    dataset = ImageDataset(data, 32, mirror=True)
    patch, _ = dataset.read(3, Patch(600, 100, 50))  # of the mirror image
    expected, _ = dataset.read(0, Patch(600, 600 - 32 - 100, 50))
    assert torch.equal(patch, expected.flip(-1))
    assert dataset.side(3) == 600


def test_no_more_is_decoded_than_the_patch_touches(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pickle.loads(pickle.dumps(ImageDataset(data, 32)))  # noqa: S301 - as DataLoader hands it to its workers
    read: list[str] = []
    plain = dataset.archive.read

    def record(name: str, *rest: int) -> bytes:
        read.append(name)
        content: bytes = plain(name, *rest)
        return content

    monkeypatch.setattr(dataset.archive, "read", record)
    for patch, files in (
        (Patch(32, 0, 0), ["00000/img00000000.png"]),
        (Patch(150, 60, 0), ["00000/img00000000.png"]),
        (Patch(300, 10, 240), ["00000/img00000000/300/0-0.png", "00000/img00000000/300/1-0.png"]),
        (Patch(600, 300, 300), ["00000/img00000000/600/1-1.png"]),
    ):
        read.clear()
        dataset.read(0, patch)
        assert read == files


@given(side=st.integers(1, 3000), tile=st.integers(16, TILE))
def test_tiles_cover_every_level_once(side: int, tile: int) -> None:
    image = StoredImage("a.png", side, tile)
    assert image.levels[-1] <= tile
    for level, length in enumerate(image.levels):
        assert sum(t.width * t.height for t in image.tiles(level)) == length**2
    assert len({t.name for level in range(len(image.levels)) for t in image.tiles(level)}) == sum(
        (-(-length // tile)) ** 2 for length in image.levels
    )


def _spoil(data: Path, path: Path, name: str, content: bytes | None) -> Path:
    """A copy of a zip with another content of a file, or without it."""
    with zipfile.ZipFile(data) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            if entry != name or content is not None:
                target.writestr(entry, source.read(entry) if entry != name else content or b"")
    return path


def test_a_zip_whose_sizes_are_wrong_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    first = "00000/img00000000"
    buffer = io.BytesIO()
    _noise(255, 256).save(buffer, "PNG")
    for name, content, message in (
        (f"{first}/600/0-0.png", None, f"{first}/600/0-0.png is missing; creps dataset ORIGINALS NEW.zip"),
        (f"{first}/600/0-0.png", buffer.getvalue(), f"{first}/600/0-0.png is 255×256, not 256×256"),
        ("dataset.json", json.dumps({"sizes": [[f"{first}.png", 900]]}).encode(), "is missing"),
        ("dataset.json", json.dumps({"sizes": [[f"{first}.png", 128]]}).encode(), "is 150×150, not 128×128"),
        ("dataset.json", json.dumps({"sizes": [["../x.png", 64]]}).encode(), r"\.\./x\.png is missing"),
        ("dataset.json", json.dumps({"sizes": [["a.png", 10**9]]}).encode(), "a.png the size 1000000000, not an int"),
        ("dataset.json", json.dumps({"sizes": [["a.png", True]]}).encode(), "a.png the size true"),
        ("dataset.json", json.dumps({"sizes": [["a.png", 9], ["a.png", 8]]}).encode(), "two sizes, 9 and 8"),
        ("dataset.json", json.dumps({"sizes": {}}).encode(), r'"sizes" is not \[\[name, side\]'),
    ):
        with pytest.raises(InputError, match=message):
            ImageDataset(_spoil(data, tmp_path / "spoilt.zip", name, content), 32, conditional=False)


def test_images_smaller_than_the_network_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match=r"img00000001\.png is 40×40, not 64×64 or more; creps dataset .* --keep-size"):
        ImageDataset(data, 64)


def test_damaged_tiles_are_found(data: Path, tmp_path: Path) -> None:
    name = "00000/img00000000/600/1-1.png"
    with zipfile.ZipFile(data) as archive:
        content = archive.read(name)
    dataset = ImageDataset(_spoil(data, tmp_path / "a.zip", name, content[:-5000] + bytes(5000)), 32)
    with pytest.raises(InputError, match=f"{name} cannot be read as an image"):
        dataset.check_pixels()


def test_a_set_of_tiles_is_no_source(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", str(data), str(tmp_path / "b.zip"), "--resolution", "8"]) == 2
    assert "source: " in (printed := capsys.readouterr().err)
    assert "is a data set of images in tiles; start from the original images" in printed


def test_one_set_serves_every_resolution(data: Path, tmp_path: Path) -> None:
    """Whole images are averaged to the network's resolution, for training and for metrics."""
    from model.evaluation.image_sets import open_dataset

    for resolution in (8, 16, 32):
        image, _ = open_dataset(data, resolution=resolution)[2]
        assert image.shape == (3, resolution, resolution)
        assert image.float().mean() == pytest.approx(127, abs=2)
    arguments = ["--preset", "tiny-32", "--resolution", "8", "--device", "cpu", "--metrics", "none"]
    run = [*arguments, "--data", str(data), "--outdir", str(tmp_path / "run"), "--total-kimg", "0"]
    assert main(["train", *run]) == 0
    assert (tmp_path / "run" / "data.png").exists()
    assert write_images(tmp_path / "plain", size=8)  # images in one file each are read as before
    assert ImageDataset(tmp_path / "plain", 8).sides == [8] * 6
