"""Orders whose tiles are drawn at once, and what must come of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import obstore
from numpy.typing import NDArray

from model.latents.latent import Latent
from model.spec import Encoding, Format, RenderSpec
from model.viewport import Crop, Viewport
from service.imaging.export_spec import ExportSpec, Kind
from service.imaging.object_store import Store
from service.imaging.tile_encoding import encode_tile

PixelArray = NDArray[np.uint8]
Draw = Callable[[RenderSpec], PixelArray]


def make_order(
    kind: Kind,
    size: tuple[int, int] = (300, 170),
    image_format: Format = "png",
    *,
    tile: int = 64,
    quality: int = 90,
    bits: int = 0,
    crop: Crop | None = None,
) -> ExportSpec:
    viewport = Viewport.resolve(*size, crop=crop)
    encoding = Encoding(image_format, quality, bits=bits)
    return ExportSpec(RenderSpec("demo", Latent(seed=7), viewport, encoding), kind, tile)


def smooth(spec: RenderSpec) -> PixelArray:
    """Waves [h, w, 3] that lie at the same place at every size."""
    viewport = spec.viewport
    x, y, w, h = viewport.crop
    columns = viewport.columns(x, x + w, 32)[None, :, None]
    rows = viewport.rows(y, y + h, 32)[:, None, None]
    channels = np.arange(3.0)
    return np.asarray(127 + 100 * np.sin(9 * columns + channels) * np.cos(7 * rows - channels), np.uint8)


def noise(spec: RenderSpec) -> PixelArray:
    """Pixels [h, w, 3] that no encoder makes shorter."""
    _, _, w, h = spec.viewport.crop
    return np.random.default_rng(spec.viewport.crop).integers(0, 256, (h, w, 3), np.uint8)


def level_spec(export: ExportSpec, level: int) -> RenderSpec:
    """The whole of a level as one picture."""
    size = export.pyramid.levels[level]
    first = export.tile_spec(export.pyramid.index(level, 0, 0))
    x, y, _, _ = first.viewport.crop
    return replace(first, viewport=replace(first.viewport, crop=(x, y, size.width, size.height)))


def keep_tiles(export: ExportSpec, store: Store, folder: str, draw: Draw) -> None:
    for index in range(export.pyramid.tiles):
        content = encode_tile(export, index, draw(export.tile_spec(index)))
        obstore.put(store, f"{folder}/{export.tile_name(index)}", content)
