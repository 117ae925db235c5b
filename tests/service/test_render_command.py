"""``creps render``: the file that it writes, and the one line that it answers a mistake with."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.spec import Latent, RenderSpec
from model.viewport import Viewport
from service.cli import main
from tests.kernels.networks import VARIANTS, random_checkpoint


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
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


def expect(checkpoint: Checkpoint, latent: Latent, viewport: Viewport) -> NDArray[np.uint8]:
    return Renderer(checkpoint, "cpu").render(RenderSpec("random", latent, viewport))


class TestPictures:
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

    @pytest.mark.parametrize(("name", "found"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")])
    def test_format_by_ending(self, name: str, found: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
        sizes = []
        for quality in ("20", "95"):
            assert main(["render", str(checkpoint.path), f"--output={tmp_path / name}", "--quality", quality]) == 0
            with Image.open(tmp_path / name) as picture:
                assert picture.format == found
            sizes.append((tmp_path / name).stat().st_size)
        assert sizes[0] < sizes[1]

    def test_default_name_has_the_formats_ending(self, checkpoint: Checkpoint, in_folder: Path) -> None:
        assert main(["render", str(checkpoint.path), "--format", "webp"]) == 0
        assert (in_folder / "seed0.webp").is_file()

    def test_progress_bar(
        self,
        checkpoint: Checkpoint,
        in_folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("service.commands.render._PROGRESS_DELAY", 1e-9)
        assert main(["render", str(checkpoint.path), "--size", "700x700"]) == 0
        errors = capsys.readouterr().err
        assert "rendering " in errors
        assert "100%" in errors


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
    "--size 0x10": "width",
    "--size 10x262145": "height",
    "--size 10": "size",
    "--size -5x5": "size",
    "--size 10x10x10": "size",
    "--size 16385x16385": "size",
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
    "--size 200000x200000 --crop 0,0,20000,20000": "crop",
    "--grid middle": "grid",
    "--format tiff": "format",
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
        (in_folder / "file").touch()
        answered_2(["render", str(checkpoint.path), *options.split()])
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("creps render: error: ")
        assert errors.count("\n") == 1
        assert named in errors
        assert {path.name for path in in_folder.iterdir()} == {"folder", "file"}

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
        """Nothing is drawn: the device is refused after everything else, and before any work."""
        answered_2(["render", str(checkpoint.path), f"--{option}={text}", "--output=a.png", "--device=none"])


def answered_2(arguments: list[str]) -> None:
    """A mistake in the command line itself exits; one that is found later returns the status."""
    try:
        assert main(arguments) == 2
    except SystemExit as exit_:
        assert exit_.code == 2  # noqa: PT017
