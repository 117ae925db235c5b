"""What info.json promises of a live image can be rendered, also if the limit is low and images are averaged."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import GeneratorConfig
from model.viewport import Viewport
from service.gateway.errors import TooLargeError
from service.gateway.iiif_sources import live_limits, live_viewport
from service.iiif.request import Limits, Size
from service.queue.messages import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import run_gateway, settings


def drawn_pixels(viewport: Viewport, resolution: int, max_scale: float) -> int:
    across, down = viewport.supersampling(resolution, max_scale)
    return viewport.pixels * across * down


@given(
    resolution=st.sampled_from((8, 32, 256, 1024, 4096)),
    max_scale=st.sampled_from((1.0, 2.0, 3.7, 16.0)),
    room=st.floats(0.9, 4.5),  # four times the training resolution's pixels are enough for everything
    zoom=st.floats(0.01, 1.5),
    upscale=st.booleans(),
    data=st.data(),
)
def test_max_can_be_drawn_of_any_square_region(
    resolution: int, max_scale: float, room: float, zoom: float, upscale: bool, data: st.DataObject
) -> None:
    area, side = int(room * resolution**2), max(1, int(zoom * resolution))
    longest = min(16_382, area)
    try:
        limits = live_limits(Limits(longest, longest, area), side, resolution, max_scale)
    except TooLargeError:
        assert resolution**2 > area
        return
    assert resolution**2 <= area
    part = data.draw(
        st.just(side) | st.integers(1, side)
    )  # square: rounding distorts thin ones, which may take a factor more
    sides = Size("max", upscale).resolve((part, part), limits)
    assert drawn_pixels(live_viewport(side, (0, 0, part, part), sides), resolution, max_scale) <= area


@pytest.mark.parametrize(
    ("side", "largest"),
    [
        (1500, 1414),  # as large as the limit's root: above the training resolution
        (1023, 707),  # drawn twice as large each way, and averaged
        (700, 700),
        (10, 10),
    ],
)
def test_the_largest_size_of_a_whole_image(side: int, largest: int) -> None:
    """Of a network of 1024² below 2,000,000 pixels. 1023² would take 2046², which is more."""
    assert Size("max", upscale=False).resolve(
        (side, side), live_limits(Limits(16_382, 16_382, 2_000_000), side, 1024)
    ) == (largest, largest)


@pytest.mark.parametrize(
    ("resolution", "limit"),
    [
        (1024, 1088**2),
        *(pytest.param(*limit, marks=pytest.mark.slow) for limit in ((1024, 2_000_000), (256, 320**2), (32, 96**2))),
    ],
)
def test_what_info_promises_is_not_refused(tmp_path: Path, resolution: int, limit: int) -> None:
    with run_gateway(tmp_path, settings(max_image_pixels=limit)) as running:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(resolution))
        running.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", ())]
        for side in (1, 10, 700, 1000, 1024, 1500, 3000, 65_536):
            base = f"/iiif/3/plain:1:size={side}"
            document = running.http.get(f"{base}/info.json").json()
            asked = ["full/max", "full/^max", "square/max"]
            asked += [f"full/{size['width']},{size['height']}" for size in document["sizes"]]
            (tiles,) = document["tiles"]
            for factor in tiles["scaleFactors"]:
                w = min(tiles["width"] * factor, side)
                asked.append(f"0,0,{w},{w}/{-(-w // factor)},{-(-w // factor)}")
            statuses = {path: running.http.head(f"{base}/{path}/0/default.jpg").status_code for path in asked}
            assert set(statuses.values()) == {200}, (side, statuses)


def test_a_model_that_is_too_large_says_so_at_once(tmp_path: Path) -> None:
    with run_gateway(tmp_path, settings(max_image_pixels=1_000_000)) as running:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(1024))
        answer = running.http.get("/iiif/3/plain:1/info.json")
        assert answer.status_code == 413
        assert "1024×1024" in answer.json()["detail"]
        assert "1000000" in answer.json()["detail"]
        assert answer.headers["access-control-allow-origin"] == "*"
