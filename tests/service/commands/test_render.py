"""``creps render``: the files that it writes, and its one-line errors."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from kernels.tiling import Band
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.geometry.transforms import parse_transforms
from model.geometry.wrap import Wrap
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.cli import main
from service.commands.render import parse
from tests.kernels.networks import VARIANTS, random_checkpoint
from tests.service.jobs.stand_in import files_below
from tests.service.waiting import LONG, eventually

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("conditional"), VARIANTS["conditional"])


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@pytest.fixture(autouse=True)
def _no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bar appears, even on a slow machine."""
    monkeypatch.setattr("service.commands.bars.PROGRESS_DELAY", LONG)


def expect(checkpoint: Checkpoint, latent: Latent, viewport: Viewport) -> NDArray[np.uint8]:
    return Renderer(checkpoint, "cpu").render(RenderSpec("random", latent, viewport))


class TestImages:
    def test_defaults(self, checkpoint: Checkpoint, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["render", str(checkpoint.path), "--seed", "2"]) == 0
        assert [path.name for path in in_folder.iterdir()] == ["seed2.png"]
        resolution = checkpoint.config.resolution
        viewport = Viewport.resolve(resolution, resolution)
        assert np.array_equal(read(in_folder / "seed2.png"), expect(checkpoint, Latent(seed=2), viewport))
        output, errors = capsys.readouterr()
        assert output.startswith("seed2.png: 16×16 pixels")
        assert errors == ""

    def test_every_option(self, conditional: Checkpoint, tmp_path: Path) -> None:
        output = tmp_path / "new folder" / "a.picture"
        arguments = "--seed 7 --class 2 --psi -0.5 --cutoff 3 --size 80x60 --region -0.5,-.25,1.5e0,1 --crop 3,5,70,40"
        arguments += " --grid corners --device cpu --format png"
        assert main(["render", str(conditional.path), *arguments.split(), "--output", str(output)]) == 0
        latent = Latent(seed=7, class_index=2, psi=-0.5, cutoff=3)
        viewport = Viewport.resolve(80, 60, (-0.5, -0.25, 1.5, 1.0), (3, 5, 70, 40), "corners")
        assert np.array_equal(read(output), expect(conditional, latent, viewport))
        assert [path.name for path in output.parent.iterdir()] == ["a.picture"]

    def test_transforms_in_the_order_given(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        output = tmp_path / "a.png"
        arguments = "--size 40x30 --rotate -30 --translate -0.1,0 --scale 1.5,0.5 --matrix 1,0.1,0,0,1,0 --rotate 5"
        given = [*arguments.split(), "--transform", '[{"lens": {"k1": 0.1}}]', "--outside", "fill"]
        assert main(["render", str(checkpoint.path), *given, "--output", str(output)]) == 0
        kinds: list[dict[str, Any]] = [{"rotate": -30}, {"translate": [-0.1, 0]}, {"scale": [1.5, 0.5]}]
        kinds += [{"matrix": [1, 0.1, 0, 0, 1, 0]}, {"rotate": 5}, {"lens": {"k1": 0.1}}]
        viewport = Viewport.resolve(40, 30, transform=parse_transforms(kinds), outside="fill")
        assert np.array_equal(read(output), expect(checkpoint, Latent(seed=0), viewport))
        again = tmp_path / "again.png"
        assert main(["render", str(checkpoint.path), "--like", str(output), "--output", str(again)]) == 0
        assert np.array_equal(read(again), read(output))

    def test_seamless(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        output = tmp_path / "a.png"
        given = ["--size", "40x30", "--wrap", "x", "--wrap-blend", "0.5"]
        assert main(["render", str(checkpoint.path), *given, "--output", str(output)]) == 0
        viewport = Viewport.resolve(40, 30, wrap=Wrap("x", blend=0.5))
        assert np.array_equal(read(output), expect(checkpoint, Latent(seed=0), viewport))
        with pytest.raises(InputError, match=r"^wrap-blend: must be from 0\.01"):
            parse(["demo", "--wrap", "x", "--wrap-blend", "2"])

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--rotate", "a"),
            ("--rotate", "1,2"),
            ("--scale", "0"),
            ("--matrix", "1,2,0,2,4,0"),
            ("--transform", "[{"),
            ("--transform", '[{"spin": 1}]'),
        ],
    )
    def test_what_is_no_transform(self, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as error:
            parse(["demo", option, value])
        assert error.value.code == 2
        assert option in capsys.readouterr().err

    @pytest.mark.parametrize(("name", "found"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")])
    def test_format_by_ending(self, name: str, found: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
        sizes = []
        for quality in ("20", "95"):
            assert main(["render", str(checkpoint.path), f"--output={tmp_path / name}", "--quality", quality]) == 0
            with Image.open(tmp_path / name) as image:
                assert image.format == found
            sizes.append((tmp_path / name).stat().st_size)
        assert sizes[0] < sizes[1]

    def test_default_name_has_the_formats_ending(self, checkpoint: Checkpoint, in_folder: Path) -> None:
        assert main(["render", str(checkpoint.path), "--format", "webp"]) == 0
        assert (in_folder / "seed0.webp").is_file()

    @pytest.mark.parametrize(
        ("size", "expected"),
        [("64", (64, 64)), ("64X32", (64, 32)), ("64×32", (64, 32)), ("64 x 32", (64, 32))],
    )
    def test_forms_of_a_size(self, size: str, expected: tuple[int, int]) -> None:
        viewport = parse(["demo", "--seed", "7.0", "--size", size, "--crop", "0, 0, 8.0, 8"]).spec.viewport
        assert (viewport.width, viewport.height) == expected
        assert viewport.crop == (0, 0, 8, 8)

    @pytest.mark.parametrize("size", ["64x", "x64", "64x64x64", "6_4", "64.5", "64,32"])
    def test_what_is_no_size(self, size: str) -> None:
        with pytest.raises(SystemExit) as error:
            parse(["demo", "--size", size])
        assert error.value.code == 2

    @pytest.mark.parametrize(("given", "found"), [("jpg", "jpeg"), ("JPEG", "jpeg"), ("WebP", "webp")])
    def test_forms_of_a_format(self, given: str, found: str) -> None:
        assert parse(["demo", "--format", given]).spec.encoding.format == found
        assert parse(["demo", "--output", "a.dzi", "--tile-format", given]).spec.encoding.format == found

    def test_progress_bar(
        self,
        checkpoint: Checkpoint,
        in_folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("service.commands.bars.PROGRESS_DELAY", 0.0)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert main(["render", str(checkpoint.path), "--size", "100x100"]) == 0
        errors = capsys.readouterr().err
        assert "rendering " in errors
        assert "100%" in errors


def read_tiff(path: Path) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = tifffile.imread(path)
    assert np.array_equal(read(path), image)  # Pillow, too
    return image


def read_deep_zoom(path: Path) -> NDArray[np.uint8]:
    """The largest level, stitched as the descriptor says from the tiles that viewers request."""
    image = ElementTree.parse(path).getroot()  # noqa: S314 - our own
    size = next(iter(image)).attrib
    width, height, tile = int(size["Width"]), int(size["Height"]), int(image.attrib["TileSize"])
    last = max(width - 1, height - 1).bit_length()
    whole = np.zeros((height, width, 3), np.uint8)
    for y, x in itertools.product(range(0, height, tile), range(0, width, tile)):
        name = f"{x // tile}_{y // tile}.{image.attrib['Format']}"
        pixels = read(path.with_name(f"{path.stem}_files") / str(last) / name)
        whole[y : y + tile, x : x + tile] = pixels
    return whole


class TestLargeImages:
    @pytest.mark.parametrize("crop", ["", "--crop 37,11,71,60"])
    def test_every_lossless_file_has_the_same_pixels(
        self, crop: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Sides are not multiples of the tile."""
        common = f"demo --seed 7 --psi 0.7 --size 130x85 {crop} --output".split()
        assert main(["render", *common, "a.png"]) == 0
        assert main(["render", *common, "a.tiff", "--tile", "64"]) == 0
        assert main(["render", *common, "a.dzi", "--tile", "64"]) == 0
        assert main(["render", *common, "b.tif", "--tile", "2048"]) == 0
        monkeypatch.setattr("service.commands.render_output.MAX_PIXELS_IN_MEMORY", 0)
        assert main(["render", *common, "b.png"]) == 0
        plain = read(in_folder / "a.png")
        assert plain.shape == ((60, 71, 3) if crop else (85, 130, 3))
        assert plain.std() > 10
        for other in (
            read(in_folder / "b.png"),
            read_tiff(in_folder / "a.tiff"),
            read_tiff(in_folder / "b.tif"),
            read_deep_zoom(in_folder / "a.dzi"),
        ):
            assert np.array_equal(other, plain)
        names = {path.name for path in in_folder.iterdir()}
        assert names == {"a.png", "a.tiff", "a.dzi", "a_files", "b.tif", "b.png"}
        assert (in_folder / "a.tiff").stat().st_mode == (in_folder / "a_files").stat().st_mode & 0o666 | 0o100000

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ("--format dzi", ".png"),
            ("--format dzi --tile-format jpeg", ".jpg"),
            ("--format dzi --tile-format webp", ".webp"),
        ],
    )
    def test_tile_formats(self, options: str, found: str, checkpoint: Checkpoint, in_folder: Path) -> None:
        assert main(["render", str(checkpoint.path), *options.split(), "--size", "70x50", "--tile", "64"]) == 0
        assert {path.suffix for path in (in_folder / "seed0_files").rglob("*.*")} == {found}
        assert (in_folder / "seed0.dzi").is_file()

    def test_quality_of_tiles(self, checkpoint: Checkpoint, in_folder: Path) -> None:
        common = ["render", str(checkpoint.path), "--format", "tiff", "--tile-format", "jpeg", "--output"]
        for quality in ("20", "95"):
            assert main([*common, f"{quality}.tiff", "--quality", quality]) == 0
        assert (in_folder / "20.tiff").stat().st_size < (in_folder / "95.tiff").stat().st_size

    def test_what_was_there_is_replaced_as_a_whole(self, checkpoint: Checkpoint, in_folder: Path) -> None:
        render = ["render", str(checkpoint.path), "--tile", "64"]
        assert main([*render, "--size", "300x300", "--output", "a.dzi"]) == 0
        assert main([*render, "--size", "100x70", "--output", "a.dzi"]) == 0
        assert main([*render, "--size", "100x70", "--output", "b.dzi"]) == 0
        assert files_below(in_folder / "a_files") == files_below(in_folder / "b_files")
        assert (in_folder / "a.dzi").read_bytes() == (in_folder / "b.dzi").read_bytes()
        (in_folder / "a.tiff").write_bytes(b"old")
        assert main([*render, "--output", "a.tiff"]) == 0
        assert read_tiff(in_folder / "a.tiff").shape == (16, 16, 3)
        assert {path.name for path in in_folder.iterdir()} == {"a.dzi", "a_files", "b.dzi", "b_files", "a.tiff"}

    @pytest.mark.parametrize(("name", "bands"), [("a.dzi", 3), ("a.tiff", 3), ("a.png", 1)])
    def test_what_is_interrupted_leaves_all_as_it_was(
        self,
        name: str,
        bands: int,
        checkpoint: Checkpoint,
        in_folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("service.commands.render_output.MAX_PIXELS_IN_MEMORY", 0)
        interrupt_after(monkeypatch, bands)
        render = ["render", str(checkpoint.path), "--size", "1100x600", "--output"]
        assert main([*render, f"new/folder/{name}"]) == 130
        assert list(in_folder.iterdir()) == []
        (in_folder / "a_files").mkdir()
        for path in ("a.dzi", "a.tiff", "a.png", "a_files/old"):
            (in_folder / path).write_bytes(b"old")
        before = files_below(in_folder)
        interrupt_after(monkeypatch, bands)
        assert main([*render, name]) == 130
        assert files_below(in_folder) == before
        assert "interrupted" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("name", "longest"), [("a.dzi", 100), ("a.tiff", 100), ("a.tiff", 16_000), ("a.png", 16_000)]
    )
    def test_a_full_disk(
        self,
        name: str,
        longest: int,
        in_folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Files are limited to less than a tile, or to less than the whole output."""
        monkeypatch.setattr("service.commands.render_output.MAX_PIXELS_IN_MEMORY", 0)
        tile = [] if name == "a.png" else ["--tile", "64"]
        with longest_file(longest):
            assert main(["render", "demo", "--size", "300x170", "--output", f"new/{name}", *tile]) == 2
        errors = capsys.readouterr().err  # ends after the progress bar of a slow machine
        assert errors.endswith(f"creps render: error: output: new/{name} cannot be written: File too large\n")
        assert list(in_folder.iterdir()) == []

    @pytest.mark.slow
    def test_sigterm(self, in_folder: Path) -> None:
        """A whole process, as ``kill``, ``timeout`` and batch systems stop it."""
        command = [sys.executable, "-m", "service", "render", "demo", "--size", "9999x9999", "--output"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*command, "new/a.tiff"], stderr=subprocess.PIPE, text=True, env=environment)
        try:
            asyncio.run(eventually(lambda: any(in_folder.rglob("*_*.png"))))
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=LONG)
        finally:
            process.kill()
        assert errors.endswith("creps render: interrupted\n")
        assert process.returncode == 130
        assert list(in_folder.iterdir()) == []

    def test_progress_bars(
        self,
        checkpoint: Checkpoint,
        in_folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("service.commands.bars.PROGRESS_DELAY", 0.0)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert main(["render", str(checkpoint.path), "--size", "100x100", "--output", "a.tiff"]) == 0
        errors = capsys.readouterr().err
        assert "rendering100%" in errors
        assert "writing100%" in errors


def interrupt_after(monkeypatch: pytest.MonkeyPatch, bands: int) -> None:
    """SIGTERM after this number of rendered bands."""
    count = itertools.count()
    original = Renderer._cut

    def cut(self: Renderer, *work: Any, **options: Any) -> Iterator[Band]:
        for band in original(self, *work, **options):
            if next(count) >= bands:
                signal.raise_signal(signal.SIGTERM)
            yield band

    monkeypatch.setattr(Renderer, "_cut", cut)


@contextlib.contextmanager
def longest_file(size: int) -> Iterator[None]:
    """Writing to a file beyond ``size`` bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


MISTAKES = {
    "--seed -1": "seed",
    "--seed 4294967296": "seed",
    "--seed 1.5": "seed",
    "--seed 99999999999999999999": "seed",
    "--seed ٣": "seed",
    "--psi nan": "psi",
    "--psi inf": "psi",
    "--psi 3": "psi",
    "--cutoff 99": "cutoff",
    "--class 0": "class",
    "--size 0x10": "size",
    "--size 10x262145": "size",
    "--size -5x5": "size",
    "--size 10x": "size",
    "--size 10x10x10": "size",
    "--size 16385x16385 --format jpeg": "size",
    "--region 0,0,1": "region",
    "--region 0,0,0,1": "region",
    "--region 1,0,0,1": "region",
    "--region 0,0,1,nan": "region",
    "--region -inf,0,1,1": "region",
    "--region 0,0,1,1e999": "region",
    "--region -1.5,0,1,1": "region",
    "--region 0,0,1,1,": "region",
    "--crop 0,0,0,5": "crop",
    "--crop -1,0,5,5": "crop",
    "--crop 10,10,10,10": "crop",
    "--crop 0,0,1.5,5": "crop",
    "--size 200000x200000 --crop 0,0,20000,20000 --format jpeg": "crop",
    "--grid middle": "grid",
    "--format gif": "format",
    "--format tiff --size 1x262145": "size",
    "--format tiff --tile-format webp": "tile-format",
    "--format tiff --tile 100": "tile",
    "--format dzi --tile 32": "tile",
    "--format dzi --tile 4096": "tile",
    "--format dzi --tile big": "tile",
    "--format dzi --tile-format tiff": "tile-format",
    "--tile 256": "tile",
    "--format jpeg --tile-format png": "tile-format",
    "--format dzi --output a.png": "output",
    "--format dzi --output folder": "output",
    "--output taken.dzi": "taken_files",
    "--output file/a.dzi": "output",
    "--output file/a.tiff": "output",
    "--quality 0": "quality",
    "--quality 101": "quality",
    "--size 16383x1 --format webp": "16382",
    "--size 1x65501 --format jpeg": "65500",
    "--device tpu": "device",
    "--device cuda:99": "device",
    "--output a.bmp": "output",
    "--output folder --format png": "output",
    "--output file/a.png": "output",
    "--unknown": "unknown",
    "extra": "extra",
}


class TestMistakes:
    @pytest.mark.parametrize(("options", "named"), MISTAKES.items())
    def test_one_line_that_names_the_field(
        self, options: str, named: str, checkpoint: Checkpoint, in_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (in_folder / "folder").mkdir()
        (in_folder / "taken_files").mkdir()
        (in_folder / "file").touch()
        answered_2(["render", str(checkpoint.path), *options.split()])
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("creps render: error: ")
        assert errors.count("\n") == 1
        assert named in errors
        assert {path.name for path in in_folder.iterdir()} == {"folder", "taken_files", "file"}

    def test_conditional_network_without_a_class(
        self, conditional: Checkpoint, in_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answered_2(["render", str(conditional.path)])
        assert "from 0 to 2" in capsys.readouterr().err

    @pytest.mark.parametrize("content", [None, b"", b"\x80\x04 a pickle", b"\x10" + bytes(40)])
    def test_files_that_are_no_checkpoint(
        self, content: bytes | None, in_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if content is not None:
            (in_folder / "a.safetensors").write_bytes(content)
        answered_2(["render", "a.safetensors"])
        assert capsys.readouterr().err.startswith("creps render: error: checkpoint: a.safetensors")

    @given(st.sampled_from(["seed", "psi", "size", "region", "crop", "class", "cutoff", "quality"]), st.text())
    def test_any_text_is_read_or_refused(self, checkpoint: Checkpoint, option: str, text: str) -> None:
        """The invalid device is refused after all other checks and before rendering."""
        answered_2(["render", str(checkpoint.path), f"--{option}={text}", "--output=a.png", "--device=none"])


def answered_2(arguments: list[str]) -> None:
    """argparse exits with the status; later errors return it."""
    try:
        assert main(arguments) == 2
    except SystemExit as exit_:
        assert exit_.code == 2  # noqa: PT017


def test_deep_files(checkpoint: Checkpoint, in_folder: Path) -> None:
    spec = RenderSpec("random", Latent(seed=3), Viewport.resolve(40, 30), Encoding("npy"))
    colours = Renderer(checkpoint, "cpu").render(spec)
    options = [str(checkpoint.path), "--seed", "3", "--size", "40x30", "--device", "cpu"]
    for name, bits in (("a.npy", "0"), ("a.tiff", "32"), ("b.tif", "16"), ("a.png", "16")):
        given = ["--bits", bits] if bits != "0" else []
        assert main(["render", *options, *given, "--output", name]) == 0
    unit = (colours.astype(float) + 1).clip(0, 2) / 2
    assert np.array_equal(np.load("a.npy"), colours)
    assert tifffile.imread("a.tiff") == pytest.approx(unit, abs=1e-6)
    assert np.abs(tifffile.imread("b.tif") - 65535 * unit).max() <= 1
    assert np.array_equal(imagecodecs.imread("a.png"), tifffile.imread("b.tif"))
    with tifffile.TiffFile("a.tiff") as file:
        assert '"seed":3' in file.pages[0].description  # type: ignore[union-attr]


def test_deep_files_that_are_large(checkpoint: Checkpoint, in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written as they are rendered, with the same numbers."""
    options = [str(checkpoint.path), "--seed", "3", "--size", "140x90", "--device", "cpu", "--bits", "16"]
    assert main(["render", *options, "--output", "small.tiff"]) == 0
    assert main(["render", *options, "--tile", "64", "--output", "tiled.tiff"]) == 0
    for name in ("render.MAX_PIXELS", "render_output.MAX_PIXELS_IN_MEMORY"):
        monkeypatch.setattr(f"service.commands.{name}", 10_000)
    assert main(["render", *options, "--output", "large.png"]) == 0
    assert main(["render", *options, "--output", "large.tiff"]) == 0
    expected = tifffile.imread("small.tiff")
    for found in (
        imagecodecs.imread("large.png"),
        *(tifffile.imread(f"{name}.tiff", key=0) for name in ("tiled", "large")),
    ):
        assert found.dtype == np.uint16
        assert np.array_equal(found, expected)
    assert main(["render", *options, "--format", "jxl", "--output", "large.jxl"]) == 2


def test_a_tiff_of_eight_bits_is_made_of_tiles(checkpoint: Checkpoint, in_folder: Path) -> None:
    assert main(["render", str(checkpoint.path), "--size", "40x30", "--device", "cpu", "--output", "a.tiff"]) == 0
    with tifffile.TiffFile("a.tiff") as file:
        assert file.is_bigtiff
