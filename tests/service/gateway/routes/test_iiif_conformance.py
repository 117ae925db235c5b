"""The validator of the IIIF consortium with its own image, served as a finished job."""

import asyncio
import secrets
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.imaging.assemble import deep_zoom_descriptor
from service.imaging.export_spec import Kind
from service.imaging.tile_encoding import encode_tile
from service.jobs.reconciler import Reconciler
from tests.service.gateway.stand_in import RunningGateway
from tests.service.jobs.stand_in import image_of, make_job
from tests.service.waiting import LONG

pytestmark = pytest.mark.skipif(
    find_library("magic") is None, reason="the validator needs libmagic (Debian: apt-get install libmagic1)"
)


def squares() -> NDArray[np.uint8]:
    """10×10 squares of 100×100 pixels in the colours that the validator knows."""
    from iiif_validator.validator import ValidationInfo

    colours = np.array(ValidationInfo().colorInfo, np.uint8)  # [column, row, 3]
    return colours.transpose(1, 0, 2).repeat(100, axis=0).repeat(100, axis=1)


def store_as_job(gateway: RunningGateway, image: NDArray[np.uint8], kind: Kind = "dzi") -> str:
    """Writes an image as the files of a finished job, which a reconciler then finds."""
    job = make_job("d" * 64, kind, size=image.shape[1::-1], tile=256, number=secrets.randbits(128))
    store, order = gateway.app_state.outputs, image_of(job)
    for number, level in enumerate(order.pyramid.levels):
        scaled = np.asarray(Image.fromarray(image).resize((level.width, level.height), Image.Resampling.BOX))
        for row, column in np.ndindex(level.rows, level.columns):
            x, y, w, h = level.box(column, row)
            index = order.pyramid.index(number, column, row)
            content = encode_tile(order, index, scaled[y : y + h, x : x + w])
            obstore.put(store, job.path(order.tile_name(index)), content)
    obstore.put(store, job.path("job.json"), job.to_json().encode())
    obstore.put(store, job.path(order.name), deep_zoom_descriptor(order))
    reconciler = Reconciler(gateway.app_state.jobs, store, days=1)
    asyncio.run_coroutine_threadsafe(reconciler.compare(), gateway.loop).result(LONG)
    return job.id


def test_all_of_level_2(gateway: RunningGateway) -> None:
    job = store_as_job(gateway, squares())
    host = gateway.address.removeprefix("http://")
    script = str(Path(sys.executable).with_name("iiif-validate.py"))
    command = [sys.executable, script, "-s", host, "-p", "iiif/3", "-i", f"job:{job}", "--version=3.0", "--level", "2"]
    done: Any = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Done (33 tests, 0 failures)" in done.stderr + done.stdout, done.stderr + done.stdout
