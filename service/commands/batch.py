"""Several images of one size, as files and as a contact sheet."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.spec import Encoding, RenderSpec
from model.util.cpus import available_cpus
from model.util.files import write_atomically
from model.util.text import counted
from service.commands.bars import rendering_bar
from service.commands.options import check_output
from service.imaging.contact_sheet import MAX_PIXELS, contact_sheet, legend_cell, sheet_size
from service.imaging.encode import FORMATS_BY_SUFFIX, SUFFIXES, encode
from service.imaging.metadata import encode_image

if TYPE_CHECKING:
    from kernels.renderer import Renderer

BATCH_PIXELS = 1 << 22
"""Pixels that are rendered together: enough to keep a GPU busy."""

BATCH_IMAGES = 64

PixelArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """Images to render.

    Attributes:
        specs: images of equal size and encoding.
        files: a path for each, or empty.
        labels: of the cells of the sheet.
        sheet: path of the contact sheet.
        columns: of the sheet.
        legend: lines of text in a cell before the first image, if there are any.
    """

    specs: Sequence[RenderSpec]
    files: Sequence[Path]
    labels: Sequence[str]
    sheet: Path | None = None
    columns: int = 1
    legend: Sequence[str] = ()

    @classmethod
    def resolve(
        cls, specs: Sequence[RenderSpec], outdir: Path | None, grid: tuple[int, int] | None, output: Path | None
    ) -> "Batch":
        """A batch of seeds: files in ``outdir``, a sheet in ``output`` if a grid is given. Raises InputError."""
        if outdir is None and grid is None:
            raise InputError("seeds", "need --outdir DIR for files or --sheet COLSxROWS for a contact sheet")
        _, _, width, height = specs[0].viewport.crop
        specs[0].encoding.check_size(width, height)
        if width * height > MAX_PIXELS:
            raise InputError("size", f"of several images must be at most {MAX_PIXELS} pixels each")
        seeds = [str(spec.latent.seed) for spec in specs]
        suffix = SUFFIXES[specs[0].encoding.format]
        files = [] if outdir is None else [outdir / f"seed{seed:0>4}.{suffix}" for seed in seeds]
        for path in files[:1]:
            check_output("outdir", path)
        if grid is None:
            if output is not None:
                raise InputError("output", "is for --sheet; --outdir is the folder of the images")
            return cls(specs, files, seeds)
        specs[0].encoding.require_common()
        columns, rows = grid
        if columns * rows < len(specs):
            raise InputError("sheet", f"of {columns}×{rows} has no room for {len(specs)} images")
        return cls(specs, files, seeds, sheet_path(output, outdir, len(specs), columns, specs[0]), columns)

    @property
    def place(self) -> Path:
        """The sheet, or the folder of the files."""
        return self.sheet or self.files[0].parent


def sheet_path(output: Path | None, outdir: Path | None, cells: int, columns: int, spec: RenderSpec) -> Path:
    """Where a sheet is written. Raises InputError if it is too large or cannot be written."""
    sheet_size(cells, columns, *spec.viewport.crop[2:])
    path = output or (outdir or Path()) / "sheet.png"
    if path.suffix.lower().removeprefix(".") not in (*FORMATS_BY_SUFFIX, "jpeg"):
        raise InputError("output", f"of a sheet must end in {', '.join(FORMATS_BY_SUFFIX)}, not {path.name}")
    check_output("output", path)
    return path


def render_batch(batch: Batch, renderer: "Renderer") -> str:
    """Render and write a batch, and say what was written. Raises OSError."""
    cells: list[PixelArray] = []
    with (
        rendering_bar("rendering", sum(renderer.cost(spec) for spec in batch.specs)) as bar,
        ThreadPoolExecutor(available_cpus(), thread_name_prefix="encode") as encoders,
    ):
        written: list[Future[None]] = []
        for indices in _chunks(batch.specs):
            images = renderer.render_batch([batch.specs[index] for index in indices], bar.update)
            for future in written:
                future.result()  # raises errors, and bounds the images in memory
            written = [
                encoders.submit(_write, batch.files[index], image, batch.specs[index])
                for index, image in zip(indices, images, strict=True)
                if batch.files
            ]
            if batch.sheet is not None:
                cells += images
        for future in written:
            future.result()
    told = [f"{counted(len(batch.files), 'image')} in {batch.files[0].parent}"] if batch.files else []
    if batch.sheet is not None:
        _, _, width, height = batch.specs[0].viewport.crop
        corner = [legend_cell(batch.legend, width, height)] if batch.legend else []
        sheet = contact_sheet([*corner, *cells], batch.columns, [*[""] * len(corner), *batch.labels])
        suffix = batch.sheet.suffix.lower().removeprefix(".")
        write_atomically(batch.sheet, encode(sheet, Encoding(FORMATS_BY_SUFFIX.get(suffix, "jpeg"))))
        told.append(f"{batch.sheet}: {sheet.shape[1]}×{sheet.shape[0]} pixels")
    return "; ".join(told)


def _write(path: Path, image: PixelArray, spec: RenderSpec) -> None:
    write_atomically(path, encode_image(image, spec))


def _chunks(specs: Sequence[RenderSpec]) -> Iterator[range]:
    size = max(1, min(BATCH_IMAGES, BATCH_PIXELS // specs[0].viewport.pixels))
    for start in range(0, len(specs), size):
        yield range(start, min(start + size, len(specs)))
