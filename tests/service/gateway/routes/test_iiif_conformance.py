"""The validator of the IIIF consortium against its own picture, served as a finished job."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.jobs.keeper import Keeper
from service.outputs.deepzoom import descriptor
from service.outputs.order import Kind
from service.outputs.tiles import encode_tile
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.jobs.stand_in import make_job
from tests.service.waiting import LONG

pytestmark = pytest.mark.skipif(
    find_library("magic") is None, reason="the validator needs libmagic (Debian: apt-get install libmagic1)"
)


def squares() -> NDArray[np.uint8]:
    """10×10 squares of 100×100 pixels in the colours that the validator knows."""
    from iiif_validator.validator import ValidationInfo

    colours = np.array(ValidationInfo().colorInfo, np.uint8)  # [column, row, 3]
    return colours.transpose(1, 0, 2).repeat(100, axis=0).repeat(100, axis=1)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with run_gateway(tmp_path, settings()) as running:
        yield running


def store_as_job(gateway: RunningGateway, picture: NDArray[np.uint8], kind: Kind = "dzi") -> str:
    """Writes a picture as the files of a finished job, which a keeper then finds."""
    job = make_job("d" * 64, kind, size=picture.shape[1::-1], tile=256, number=secrets.randbits(128))
    store, order = gateway.services.outputs, job.order
    for index in range(order.pyramid.tiles):
        level, column, row = order.pyramid.locate(index)
        size = order.pyramid.levels[level]
        scaled = np.asarray(Image.fromarray(picture).resize((size.width, size.height), Image.Resampling.BOX))
        x, y, w, h = size.box(column, row)
        obstore.put(store, job.path(order.tile_name(index)), encode_tile(order, scaled[y : y + h, x : x + w]))
    obstore.put(store, job.record, job.to_json().encode())
    obstore.put(store, job.path(order.name), descriptor(order))
    keeper = Keeper(gateway.services.jobs, store, days=1)
    asyncio.run_coroutine_threadsafe(keeper.compare(), gateway.loop).result(LONG)
    return job.id


def test_all_of_level_2(gateway: RunningGateway) -> None:
    job = store_as_job(gateway, squares())
    host = gateway.address.removeprefix("http://")
    script = Path(sys.executable).with_name("iiif-validate.py")
    command = [
        sys.executable,
        str(script),
        "-s",
        host,
        "-p",
        "iiif/3",
        "-i",
        f"job:{job}",
        "--version=3.0",
        "--level",
        "2",
    ]
    done: Any = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Done (33 tests, 0 failures)" in done.stderr + done.stdout, done.stderr + done.stdout
