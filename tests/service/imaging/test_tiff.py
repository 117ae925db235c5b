"""Where the tiles of a large TIFF stand, without a tile."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
import torch

from model.util.measuring import in_own_process, peak_memory
from service.imaging.tiff import make_layout, scan, write_tiff
from tests.service.imaging.drawn import make_order


def test_every_tile_stands_where_the_file_says() -> None:
    """Tiles of any lengths, told by their contents."""
    export = make_order("tiff", (1000, 700))
    lengths = np.random.default_rng(0).integers(8, 300, export.pyramid.tiles)
    layout = make_layout(export, lengths)
    file = io.BytesIO()
    tiles: Iterator[bytes] = (index.to_bytes(8) + bytes(lengths[index] - 8) for index in scan(export))
    write_tiff(layout, tiles, file.write)
    assert file.tell() == layout.size
    assert next(tiles, None) is None
    file.seek(0)
    with tifffile.TiffFile(file) as written:
        for level, page in zip(reversed(range(len(export.pyramid.levels))), written.series[0].levels, strict=True):
            indices = list(export.pyramid.scan(level))
            offsets, counts = page.keyframe.dataoffsets, page.keyframe.databytecounts
            assert list(counts) == lengths[indices].tolist()
            assert [int.from_bytes(file.getvalue()[offset : offset + 8]) for offset in offsets] == indices


def layout_of_large_export() -> tuple[int, int, int]:
    """(tiles, bytes of the file, bytes of memory that laying it out takes) of 65,536² in tiles of 128."""
    export = make_order("tiff", (65_536, 65_536), tile=128)
    before = peak_memory(torch.device("cpu"))
    layout = make_layout(export, np.full(export.pyramid.tiles, 1000))
    return export.pyramid.tiles, layout.size, peak_memory(torch.device("cpu")) - before


@pytest.mark.slow
def test_memory_of_many_tiles() -> None:
    tiles, size, memory = in_own_process("the layout of a large TIFF", layout_of_large_export)
    assert tiles == 349_525
    assert 1012 * tiles < size < 1013 * tiles  # a tile's offset takes 8 bytes and its length 4
    assert memory < 150 * tiles
