"""Files tell how they were made."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import InputError
from model.latents.latent import Edit, Latent, LayerStyles, Weighted, pack_floats
from model.spec import FORMATS, Encoding, Format, RenderSpec
from model.viewport import Viewport
from service.cli import main
from service.imaging.encode import encode
from service.imaging.metadata import VERSION, encode_image, read_description, read_spec
from tests.kernels.networks import random_checkpoint

IMAGE = np.random.RandomState(0).randint(0, 256, (21, 33, 3), np.uint8)
LATENT = Latent(
    mix=(Weighted(Latent(seed=1), 0.3), Weighted(Latent(w=pack_floats(np.arange(3.0)), psi=0.5), 0.7)),
    styles=(LayerStyles((0, 2), Latent(z=pack_floats([1, 2]))),),
    edits=(Edit("sefa:2", 1.5), Edit(pack_floats([1, 2, 3]), -1, (1,))),
)


def make_spec(format_: Format, latent: Latent = LATENT, **encoding: object) -> RenderSpec:
    viewport = Viewport.resolve(100, 80, (0.1, 0.2, 0.9, 0.8), (3, 4, 33, 21))
    return RenderSpec("a" * 64, latent, viewport, Encoding(format_, 80, **encoding))  # type: ignore[arg-type]


@pytest.mark.parametrize("format_", FORMATS)
class TestFormats:
    def test_the_spec_comes_back(self, format_: Format) -> None:
        spec = make_spec(format_)
        content = encode_image(IMAGE, spec)
        assert read_spec(content) == spec
        assert read_description(content)["version"] == VERSION
        assert content == encode_image(IMAGE, spec)  # no time, nothing random

    def test_pixels_are_unchanged(self, format_: Format) -> None:
        spec = make_spec(format_)
        told, plain = (
            Image.open(io.BytesIO(each)) for each in (encode_image(IMAGE, spec), encode(IMAGE, spec.encoding))
        )
        assert told.format == plain.format
        np.testing.assert_array_equal(np.asarray(told), np.asarray(plain))

    def test_other_programs_see_that_it_was_generated(self, format_: Format) -> None:
        with Image.open(io.BytesIO(encode_image(IMAGE, make_spec(format_)))) as image:
            xmp = image.info.get("XML:com.adobe.xmp") or image.info["xmp"].decode()
            assert "digitalsourcetype/trainedAlgorithmicMedia<" in xmp
            if format_ != "png":
                assert image.getexif()[0x0131] == f"CREPS Serve {VERSION}"

    def test_none_leaves_it_out(self, format_: Format) -> None:
        spec = make_spec(format_, metadata="none")
        assert encode_image(IMAGE, spec) == encode(IMAGE, spec.encoding)
        with pytest.raises(InputError, match="does not tell how it was made"):
            read_spec(encode_image(IMAGE, spec))

    def test_of_a_large_latent_the_key_stays(self, format_: Format) -> None:
        spec = make_spec(format_, Latent(w=pack_floats(np.random.RandomState(0).randn(17 * 512))))
        content = encode_image(IMAGE, spec)
        assert read_description(content)["key"] == spec.key
        with pytest.raises(InputError, match="too long"):
            read_spec(content)

    def test_like_renders_the_same_again_and_larger(
        self, format_: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        checkpoint = random_checkpoint(tmp_path)
        model, device = str(checkpoint.path), "--device=cpu"
        given = ("--psi=0.5", "--seed=7", "--size=40x30", "--crop=5,6,20,15", device, "--output", f"a.{format_}")
        assert main(["render", model, *given]) == 0
        assert main(["render", model, "--like", f"a.{format_}", device, "--output", f"b.{format_}"]) == 0
        assert Path(f"a.{format_}").read_bytes() == Path(f"b.{format_}").read_bytes()
        assert main(["render", model, "--like", f"a.{format_}", device, "--size=60x45", "--output", "c.png"]) == 0
        larger = read_spec(Path("c.png").read_bytes())
        assert larger.latent == Latent(seed=7, psi=0.5)
        assert larger.viewport.crop_region == read_spec(Path(f"a.{format_}").read_bytes()).viewport.crop_region
        capsys.readouterr()
        Path(f"a.{format_}").rename("picture")  # its content says what it is
        assert main(["info", "picture"]) == 0
        assert json.loads(capsys.readouterr().out)["spec"]["latent"] == {"psi": 0.5, "seed": 7}
        assert main(["render", "--like", "picture"]) == 2
        assert f"must be the model with digest {checkpoint.digest}" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\xff\xff"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^picture: "):
        read_spec(content)


def test_changed_descriptions_are_refused() -> None:
    content = encode_image(IMAGE, make_spec("jpeg"))
    with pytest.raises(InputError, match="no valid spec"):
        read_spec(content.replace(b'"seed":1}', b'"seed":2}'))
