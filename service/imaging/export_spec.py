"""ExportSpec: an image that is exported as files made of tiles."""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, get_args

from model.errors import InputError
from model.spec import FORMATS, ImageFormat, RenderSpec
from model.viewport import Viewport
from service.imaging.encode import SUFFIXES
from service.imaging.pyramid import Box, Pyramid

Kind = Literal["dzi", "tiff", "png"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TILE_BOUNDS = (64, 2048)
"""Shortest and longest side of a tile in pixels. Smaller tiles would make millions of objects."""

TILE_STEP = 16
"""Sides of TIFF tiles are multiples of 16 (TIFF 6.0, section 15); so are those of the other kinds."""

DEFAULT_TILE = 512

FORMATS_OF: dict[Kind, tuple[ImageFormat, ...]] = {"dzi": FORMATS, "tiff": ("png", "jpeg", "tiff"), "png": ("png",)}
"""Formats of the tiles. TIFF defines WebP, but most readers are built without it."""

NAMES: dict[Kind, str] = {"dzi": "picture.dzi", "tiff": "picture.tiff", "png": "picture.png"}
"""The file that is written last: if it exists, the export is complete."""

_NUMBER = r"(0|[1-9]\d{0,5})"


@dataclass(frozen=True)
class ExportSpec:
    """An image as files. Equal specs give equal bytes.

    Attributes:
        spec: the image, with the encoding of its tiles; "png" and "tiff" in a TIFF mean lossless (deflate).
        kind: "dzi": Deep Zoom, a folder of tiles for viewers; "tiff": a tiled, pyramidal BigTIFF; "png": a single PNG.
        tile: side of a tile in pixels.

    Raises:
        InputError: names the field (``tile``, ``output``, ``format`` or ``bits``) and its limit.
    """

    spec: RenderSpec
    kind: Kind
    tile: int = DEFAULT_TILE

    def __post_init__(self) -> None:
        low, high = TILE_BOUNDS
        if not low <= self.tile <= high or self.tile % TILE_STEP:
            raise InputError("tile", f"must be a multiple of {TILE_STEP} from {low} to {high}, not {self.tile}")
        if self.kind not in KINDS:
            raise InputError("output", f"must be one of {', '.join(KINDS)}, not {self.kind!r}")
        encoding = self.spec.encoding
        if encoding.format not in FORMATS_OF[self.kind]:
            allowed = " or ".join(map(repr, FORMATS_OF[self.kind]))
            raise InputError("format", f"must be {allowed} for the output {self.kind}, not {encoding.format!r}")
        if self.kind == "dzi" and encoding.is_deep:
            raise InputError("bits", f"must be 8 for the output dzi, whose viewers show 8, not {encoding.bits}")

    @cached_property
    def pyramid(self) -> Pyramid:
        """Levels down to one pixel for Deep Zoom, to one tile for TIFF; a single level for PNG."""
        _, _, width, height = self.spec.viewport.crop
        smallest = {"dzi": 1, "tiff": self.tile, "png": max(width, height)}[self.kind]
        return Pyramid(width, height, self.tile, smallest)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.spec.viewport.crop[2:]

    @property
    def tiles(self) -> int:
        """Tiles of all levels."""
        return self.pyramid.tiles

    @property
    def pixels(self) -> int:
        """Pixels of all levels."""
        return self.pyramid.pixels

    def rendered_pixels(self, resolution: int, max_scale: float = 1.0) -> int:
        """Pixels that the network renders for all levels."""
        return sum(_rendered_pixels(self, resolution, max_scale))

    def work(self, tiles: int, resolution: int, max_scale: float = 1.0) -> float:
        """Pixels that the network renders for the first ``tiles`` tiles, those of one level taken as equal."""
        starts = self.pyramid.starts
        return sum(
            pixels * min(max(tiles - start, 0) / (end - start), 1)
            for pixels, start, end in zip(
                _rendered_pixels(self, resolution, max_scale), starts[:-1], starts[1:], strict=True
            )
        )

    @property
    def name(self) -> str:
        """The file that is written last."""
        return NAMES[self.kind]

    @property
    def suffix(self) -> str:
        """File suffix of a tile, without the dot."""
        return SUFFIXES[self.spec.encoding.format]

    def tile_name(self, index: int) -> str:
        """Path of a tile within the export's folder. For Deep Zoom it is the path that viewers expect."""
        level, column, row = self.pyramid.locate(index)
        return f"{self._tiles_folder}/{level}/{column}_{row}.{self.suffix}"

    def tile_index(self, name: str) -> int | None:
        """The inverse of :meth:`tile_name`; None for any other name."""
        match = re.fullmatch(rf"{self._tiles_folder}/{_NUMBER}/{_NUMBER}_{_NUMBER}\.{self.suffix}", name, re.ASCII)
        if match is None:
            return None
        level, column, row = map(int, match.groups())
        if level >= len(self.pyramid.levels):
            return None
        size = self.pyramid.levels[level]
        return self.pyramid.index(level, column, row) if column < size.columns and row < size.rows else None

    @property
    def _tiles_folder(self) -> str:
        return "picture_files" if self.kind == "dzi" else "tiles"

    def tile_box(self, index: int) -> Box:
        """The position of a tile in its level."""
        level, column, row = self.pyramid.locate(index)
        return self.pyramid.levels[level].box(column, row)

    def tile_spec(self, index: int) -> RenderSpec:
        """The tile as an image of its own. Each level is rendered at its own size, not scaled down from the next."""
        level, column, row = self.pyramid.locate(index)
        x, y, w, h = self.pyramid.levels[level].box(column, row)
        whole = self._levels[level]
        left, top = whole.crop[:2]
        return replace(self.spec, viewport=replace(whole, crop=(left + x, top + y, w, h)))

    @cached_property
    def _levels(self) -> tuple[Viewport, ...]:
        """The viewport of each level. The last is the export's own, so its pixels equal those of a plain render."""
        viewport = self.spec.viewport
        region = viewport.crop_region
        smaller = (
            replace(
                viewport,
                width=level.width,
                height=level.height,
                region=region,
                crop=(0, 0, level.width, level.height),
            )
            for level in self.pyramid.levels[:-1]
        )
        return (*smaller, viewport)

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        spec = json.loads(self.spec.to_json())
        return json.dumps({"kind": self.kind, "spec": spec, "tile": self.tile}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "ExportSpec":
        """The inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError for other text."""
        values = json.loads(text)
        return cls(RenderSpec.from_json(json.dumps(values["spec"])), values["kind"], values["tile"])


@lru_cache(256)  # asked for with each event of a job; of a warped image, samples are counted
def _rendered_pixels(export: ExportSpec, resolution: int, max_scale: float) -> tuple[int, ...]:
    """Pixels that the network renders for each level."""
    return tuple(level.rendered_pixels(resolution, max_scale) for level in export._levels)
