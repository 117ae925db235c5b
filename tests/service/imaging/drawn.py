"""Orders whose tiles are drawn at once, and what must come of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import obstore
from numpy.typing import NDArray

from model.spec import Encoding, Format, Latent, RenderSpec
from model.viewport import Crop, Viewport
from service.outputs.order import Kind, Order
from service.outputs.store import Store
from service.outputs.tiles import encode_tile

Picture = NDArray[np.uint8]
Draw = Callable[[RenderSpec], Picture]


def make_order(
    kind: Kind,
    size: tuple[int, int] = (300, 170),
    image_format: Format = "png",
    *,
    tile: int = 64,
    quality: int = 90,
    crop: Crop | None = None,
) -> Order:
    viewport = Viewport.resolve(*size, crop=crop)
    return Order(RenderSpec("demo", Latent(seed=7), viewport, Encoding(image_format, quality)), kind, tile)


def smooth(spec: RenderSpec) -> Picture:
    """Waves [h, w, 3] that lie at the same place at every size."""
    viewport = spec.viewport
    x, y, w, h = viewport.crop
    columns = viewport.columns(x, x + w, 32)[None, :, None]
    rows = viewport.rows(y, y + h, 32)[:, None, None]
    channels = np.arange(3.0)
    return np.asarray(127 + 100 * np.sin(9 * columns + channels) * np.cos(7 * rows - channels), np.uint8)


def noise(spec: RenderSpec) -> Picture:
    """Pixels [h, w, 3] that no encoder makes shorter."""
    _, _, w, h = spec.viewport.crop
    return np.random.default_rng(spec.viewport.crop).integers(0, 256, (h, w, 3), np.uint8)


def level_spec(order: Order, level: int) -> RenderSpec:
    """The whole of a level as one picture."""
    size = order.pyramid.levels[level]
    first = order.tile_spec(order.pyramid.index(level, 0, 0))
    x, y, _, _ = first.viewport.crop
    return replace(first, viewport=replace(first.viewport, crop=(x, y, size.width, size.height)))


def keep_tiles(order: Order, store: Store, folder: str, draw: Draw) -> None:
    for index in range(order.pyramid.tiles):
        content = encode_tile(order, draw(order.tile_spec(index)))
        obstore.put(store, f"{folder}/{order.tile_name(index)}", content)
