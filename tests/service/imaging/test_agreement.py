"""One picture in every output: the same pixels, whichever way they come."""

from pathlib import Path

import numpy as np
import obstore
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.spec import Encoding, Format, Latent, RenderSpec
from model.viewport import Crop, Viewport
from service.catalog import DEMO
from service.cli import main
from service.outputs.finish import finish
from service.outputs.order import KINDS, Kind, Order
from service.outputs.store import Store
from service.outputs.tiles import encode_tile
from tests.service.outputs.test_finish import stitch

SIZE, TILE = (300, 170), 64


def render(folder: Path, name: str, *options: str) -> NDArray[np.uint8]:
    """The picture of seed 7 as ``creps render`` writes it in one piece."""
    output = folder / name
    assert main(["render", "demo", "--seed", "7", "--size", "300x170", "--output", str(output), *options]) == 0
    with Image.open(output) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Checkpoint.open(DEMO), "cpu")


def make(kind: Kind, crop: Crop | None, image_format: Format, renderer: Renderer, store: Store) -> Order:
    """Makes an order as workers do: its tiles in batches of any size and order."""
    viewport = Viewport.resolve(*SIZE, crop=crop)
    order = Order(RenderSpec("demo", Latent(seed=7), viewport, Encoding(image_format)), kind, TILE)
    indices = np.random.default_rng(0).permutation(order.pyramid.tiles).tolist()
    for start in range(0, len(indices), 5):
        hand = indices[start : start + 5]
        for index, picture in zip(hand, renderer.render_batch([order.tile_spec(i) for i in hand]), strict=True):
            obstore.put(store, f"jobs/{kind}/{order.tile_name(index)}", encode_tile(order, picture))
    finish(order, store, f"jobs/{kind}", lambda _: None)
    return order


@pytest.mark.parametrize("crop", [None, (41, 13, 203, 150)])
def test_every_output_has_the_pixels_that_render_draws(
    crop: Crop | None, renderer: Renderer, store: Store, root: Path, tmp_path: Path
) -> None:
    expected = render(tmp_path, "a.png", *([] if crop is None else ["--crop", ",".join(map(str, crop))]))
    assert expected.std() > 10  # there is something to see
    for kind in KINDS:
        order = make(kind, crop, "png", renderer, store)
        folder = root / "jobs" / kind
        if kind == "dzi":
            found = stitch(folder / "picture_files", order)
        elif kind == "tiff":
            found = tifffile.imread(folder / order.name, key=0)
        else:
            with Image.open(folder / order.name) as picture:
                found = np.asarray(picture)
        assert np.array_equal(found, expected), kind
