"""An image has the same pixels in every output."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import obstore
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import Encoding, ImageFormat, RenderSpec
from model.viewport import Crop, Viewport
from service.cli import main
from service.imaging.assemble import assemble
from service.imaging.deep import encode_deep
from service.imaging.export_spec import KINDS, ExportSpec, Kind
from service.imaging.object_store import Store
from service.imaging.tile_encoding import encode_tile
from service.models.catalog import DEMO
from tests.service.imaging.drawn import level_spec
from tests.service.imaging.test_assemble import stitch

SIZE, TILE = (130, 90), 64


def render(folder: Path, name: str, *options: str) -> NDArray[np.uint8]:
    """The image of seed 7 as ``creps render`` writes it in one piece."""
    output = folder / name
    assert main(["render", "demo", "--seed", "7", "--size", "130x90", "--output", str(output), *options]) == 0
    with Image.open(output) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Checkpoint.open(DEMO), "cpu")


def make(
    kind: Kind, crop: Crop | None, image_format: ImageFormat, renderer: Renderer, store: Store, bits: int = 0
) -> ExportSpec:
    """Export an image as workers do: tiles in any order, in batches."""
    viewport = Viewport.resolve(*SIZE, crop=crop)
    export = ExportSpec(RenderSpec("demo", Latent(seed=7), viewport, Encoding(image_format, bits=bits)), kind, TILE)
    indices = np.random.default_rng(0).permutation(export.pyramid.tiles).tolist()
    for start in range(0, len(indices), 5):
        batch = indices[start : start + 5]
        for index, image in zip(batch, renderer.render_batch([export.tile_spec(i) for i in batch]), strict=True):
            obstore.put(store, f"jobs/{kind}/{export.tile_name(index)}", encode_tile(export, index, image))
    assemble(export, store, f"jobs/{kind}", lambda _: None)
    return export


@pytest.mark.parametrize("crop", [pytest.param(None, marks=pytest.mark.slow), (41, 13, 81, 70)])
def test_every_output_has_the_pixels_that_render_draws(
    crop: Crop | None, renderer: Renderer, store: Store, root: Path, tmp_path: Path
) -> None:
    expected = render(tmp_path, "a.png", *([] if crop is None else ["--crop", ",".join(map(str, crop))]))
    assert expected.std() > 10  # there is something to see
    for kind in KINDS:
        export = make(kind, crop, "png", renderer, store)
        folder = root / "jobs" / kind
        if kind == "dzi":
            found = stitch(folder / "picture_files", export)
        elif kind == "tiff":
            found = tifffile.imread(folder / export.name, key=0)
        else:
            with Image.open(folder / export.name) as image:
                found = np.asarray(image)
        assert np.array_equal(found, expected), kind


@pytest.mark.parametrize("crop", [pytest.param(None, marks=pytest.mark.slow), (41, 13, 81, 70)])
@pytest.mark.parametrize(
    ("kind", "image_format", "bits"),
    [("tiff", "tiff", 32), ("tiff", "tiff", 16), ("tiff", "png", 16), ("png", "png", 16)],
)
def test_tiles_of_more_bits_have_the_numbers_of_the_image(
    kind: Kind, image_format: ImageFormat, bits: int, crop: Crop | None, renderer: Renderer, store: Store, root: Path
) -> None:
    """At every level those of one image of that size, bit for bit: dithered by the place in the whole image."""
    export = make(kind, crop, image_format, renderer, store, bits)
    file = root / "jobs" / kind / export.name
    if kind == "png":
        found = [imagecodecs.imread(file)]
    else:
        with tifffile.TiffFile(file) as pages:
            found = [page.asarray() for page in pages.pages]
    assert len(found) == len(export.pyramid.levels)
    for level, image in zip(reversed(range(len(found))), found, strict=True):
        spec = level_spec(export, level)
        content = encode_deep(renderer.render(spec), Encoding("tiff", bits=bits), spec.viewport.crop[:2], "")
        expected = tifffile.imread(io.BytesIO(content))
        assert image.dtype == expected.dtype
        assert np.array_equal(image, expected)
