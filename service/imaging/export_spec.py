"""What is made of a picture too large for one answer: as which files, of which tiles."""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from model.errors import InputError
from model.spec import FORMATS, Format, RenderSpec
from model.viewport import Viewport
from service.outputs.pyramid import Box, Pyramid

Kind = Literal["dzi", "tiff", "png"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TILE_BOUNDS = (64, 2048)
"""Shortest and longest side of a tile in pixels. Millions of tiles would be no pyramid but a burden to every store."""

TILE_STEP = 16
"""TIFF's tiles have sides that are multiples of 16 (TIFF 6.0, section 15); ours all have."""

DEFAULT_TILE = 512

FORMATS_OF: dict[Kind, tuple[Format, ...]] = {"dzi": FORMATS, "tiff": ("png", "jpeg"), "png": ("png",)}
"""How tiles may be encoded. WebP in a TIFF is defined, but most programs are built without it."""

NAMES: dict[Kind, str] = {"dzi": "picture.dzi", "tiff": "picture.tiff", "png": "picture.png"}
"""The file that is written last: where it is, the output is complete."""


@dataclass(frozen=True)
class Order:
    """One picture as files. The same order always gives the same bytes.

    Attributes:
        spec: the picture, resolved. Its encoding is that of the tiles: of a TIFF's png tiles are stored losslessly, as
            TIFF does it.
        kind: "dzi": Deep Zoom, a folder of tiles for viewers; "tiff": one tiled BigTIFF with all smaller sizes in it;
            "png": one file for everything else.
        tile: side of a tile in pixels.

    Raises:
        InputError: names the field (``tile``, ``format`` or a side) and its limit.
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
        if self.spec.encoding.format not in FORMATS_OF[self.kind]:
            allowed = " or ".join(FORMATS_OF[self.kind])
            raise InputError("format", f"of the output {self.kind} must be {allowed}, not {self.spec.encoding.format}")

    @cached_property
    def pyramid(self) -> Pyramid:
        """Deep Zoom goes down to one pixel, a TIFF to one tile; a PNG has one size."""
        _, _, width, height = self.spec.viewport.crop
        smallest = {"dzi": 1, "tiff": self.tile, "png": max(width, height)}[self.kind]
        return Pyramid(width, height, self.tile, smallest)

    def rendered_pixels(self, resolution: int) -> int:
        """Pixels that the network draws for all levels."""
        return sum(level.rendered_pixels(resolution) for level in self._levels)

    @property
    def name(self) -> str:
        """The file that is written last."""
        return NAMES[self.kind]

    @property
    def suffix(self) -> str:
        """The ending of a tile's file, without the dot."""
        return "jpg" if self.spec.encoding.format == "jpeg" else self.spec.encoding.format

    def tile_name(self, index: int) -> str:
        """Where a tile is kept, below the order's folder: for Deep Zoom, where viewers look for it."""
        level, column, row = self.pyramid.locate(index)
        return f"{self._tiles_folder}/{level}/{column}_{row}.{self.suffix}"

    def tile_index(self, name: str) -> int | None:
        """The inverse of :meth:`tile_name`; None for any other name."""
        match = re.fullmatch(rf"{self._tiles_folder}/(\d+)/(\d+)_(\d+)\.{self.suffix}", name, re.ASCII)
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
        """The pixels of a tile in its level."""
        level, column, row = self.pyramid.locate(index)
        return self.pyramid.levels[level].box(column, row)

    def tile_spec(self, index: int) -> RenderSpec:
        """The tile as a picture of its own.

        Each level is the whole picture, drawn at that size: the network is asked again, nothing is scaled down.
        """
        level, column, row = self.pyramid.locate(index)
        x, y, w, h = self.pyramid.levels[level].box(column, row)
        whole = self._levels[level]
        left, top = whole.crop[:2]
        return replace(self.spec, viewport=replace(whole, crop=(left + x, top + y, w, h)))

    @cached_property
    def _levels(self) -> tuple[Viewport, ...]:
        """Each level's picture. The last is the order's own, so that its pixels are those of any other request."""
        viewport = self.spec.viewport
        region = viewport.crop_region
        smaller = (
            Viewport(level.width, level.height, region, (0, 0, level.width, level.height), viewport.grid)
            for level in self.pyramid.levels[:-1]
        )
        return (*smaller, viewport)

    def to_json(self) -> str:
        """Canonical JSON: equal orders give equal text."""
        spec = json.loads(self.spec.to_json())
        return json.dumps({"kind": self.kind, "spec": spec, "tile": self.tile}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Order":
        """The inverse of :meth:`to_json`, for what it wrote. Raises ValueError, KeyError or TypeError for the rest."""
        values = json.loads(text)
        return cls(RenderSpec.from_json(json.dumps(values["spec"])), values["kind"], values["tile"])
