"""Looking at what a job has made, in the explorer itself."""

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import eventually, is_busy, link, pixel, wait_for_full
from tests.service.web.stand_in import StandIn, new_job
from tests.service.web.test_jobs import ORDER

JOB = f"{1:032x}"


@pytest.fixture
def opened(new_page: Callable[..., Page], service: StandIn) -> Page:
    """Shows a picture of 2000×1000 pixels on a canvas of 800×600: 600 wide in its middle, 300 high."""
    service.jobs = [{**new_job(1, ORDER), "state": "succeeded", "progress": 1.0}]
    page = new_page()
    page.goto(f"{service.url}#seed=8&x=0.4&extent=0.5")
    wait_for_full(page, service)
    page.get_by_role("button", name="Open", exact=True).click()
    eventually(lambda: shows(page, (100, 150, 700, 450)) and not is_busy(page), page)
    return page


def shows(page: Page, box: tuple[float, float, float, float]) -> bool:
    """Whether the stored picture lies in this box of the canvas."""
    x0, y0, x1, y1 = box
    for column, row in ((380, 290), (420, 320), (int(max(x0, 0)) + 9, int(max(y0, 0)) + 9)):
        expected = 255 * (column + 0.5 - x0) / (x1 - x0), 255 * (row + 0.5 - y0) / (y1 - y0), 0
        if not np.allclose(pixel(page, column, row), expected, atol=3, rtol=0):
            return False
    return True


def test_the_whole_picture_is_shown_at_the_size_of_the_screen(opened: Page, service: StandIn) -> None:
    assert service.parts[-1] == (0, 0, 2000, 1000, 600, 300)
    assert pixel(opened, 95, 300) == pixel(opened, 400, 140) == [0x0F, 0x10, 0x13]  # beside it there is nothing
    expect(opened.locator("#iiif")).to_have_value(f"{service.url}iiif/3/job:{JOB}/info.json")
    expect(opened.locator("#region")).to_have_text("pixels 0 … 2,000   0 … 1,000")
    expect(opened.locator("#pixel")).to_have_text("at 30 %")
    expect(opened.locator("#order")).to_be_disabled()


def test_no_more_pixels_are_asked_for_than_there_are(opened: Page, service: StandIn) -> None:
    opened.mouse.move(400, 300)
    for _ in range(3):
        opened.mouse.wheel(0, -500)  # twice as large each time
    box = (400 - 2400, 300 - 1200, 400 + 2400, 300 + 1200)
    eventually(lambda: shows(opened, box) and not is_busy(opened), opened)
    assert service.parts[-1] == (833, 375, 334, 250, 334, 250)
    expect(opened.locator("#pixel")).to_have_text("at 240 %")


def test_the_link_opens_it_again(opened: Page, service: StandIn) -> None:
    opened.keyboard.press("+")
    eventually(lambda: link(opened).get("extent") == "0.6666667", opened)
    assert link(opened)["job"] == JOB
    opened.reload()
    eventually(lambda: shows(opened, (-50, 75, 850, 525)), opened)
    expect(opened.get_by_role("button", name="Close")).to_be_visible()


def test_closed_the_view_is_the_one_before(opened: Page, service: StandIn) -> None:
    before = service.asked[-1]
    service.forget()
    opened.get_by_role("button", name="Close").click()
    after = wait_for_full(opened, service)
    assert (after.seed, after.region) == (8, before.region)
    expect(opened.locator("#order")).to_be_enabled()
    expect(opened.get_by_role("button", name="Open", exact=True)).to_be_visible()


def test_another_seed_is_drawn_live(opened: Page, service: StandIn) -> None:
    service.forget()
    opened.get_by_role("button", name="Next seed").click()
    assert wait_for_full(opened, service).seed == 9
    assert "job" not in link(opened)


def test_a_removed_job_is_closed(opened: Page, service: StandIn) -> None:
    service.forget()
    opened.get_by_role("button", name="Remove").click()
    assert wait_for_full(opened, service).seed == 8
    expect(opened.locator("#jobs")).to_be_hidden()


def test_a_link_to_a_job_that_is_gone_shows_its_seed(new_page: Callable[..., Page], service: StandIn) -> None:
    page = new_page()
    page.goto(f"{service.url}#seed=8&job={2:032x}&x=0.1&extent=0.01")
    asked = wait_for_full(page, service)
    assert asked.seed == 8
    assert asked.extents[1] == pytest.approx(1)


def test_parts_cover_what_is_in_view(page: Page) -> None:
    """source.js by itself, for many pictures and views."""
    worst = page.evaluate(
        """async () => {
            const { frameOf, source } = await import("/web/source.js");
            const { clampView, regionOf } = await import("/web/view.js");
            const random = (low, high) => Math.exp(Math.log(low) + Math.log(high / low) * Math.random());
            const side = (high) => Math.ceil(random(1, high));
            const worst = { missing: 0, inside: true, enlarged: false, places: 0 };
            for (let i = 0; i < 20000; i++) {
                const job = { id: "0", width: side(262144), height: side(262144) };
                const canvas = { width: side(3000), height: side(2000) };
                const any = { x: Math.random(), y: Math.random(), extent: random(1e-6, 3) };
                const view = clampView(any, canvas);
                const { path, region } = source({ job, view }, canvas, canvas, "jpeg");
                const [x, y, w, h, width, height] = path.match(/\\d+(?=[,/])/g).slice(-7, -1).map(Number);
                worst.inside &&= x >= 0 && y >= 0 && x + w <= job.width && y + h <= job.height && w > 0 && h > 0;
                worst.enlarged ||= width > w || height > h;
                const [shown, frame] = [regionOf(view, canvas), frameOf(job)];
                const pixel = 1 / Math.max(job.width, job.height);
                for (const axis of [0, 1]) {
                    const start = Math.max(shown[axis], frame[axis]), end = Math.min(shown[axis + 2], frame[axis + 2]);
                    if (start >= end) continue; // out of sight
                    const missing = Math.max(region[axis] - start, end - region[axis + 2]) / pixel;
                    worst.missing = Math.max(worst.missing, missing);
                    const place = frame[axis] + (axis ? y : x) * pixel;
                    worst.places = Math.max(worst.places, Math.abs(place - region[axis]));
                }
            }
            return worst;
        }"""
    )
    assert worst["inside"]
    assert not worst["enlarged"]
    assert worst["missing"] < 1e-5  # of a pixel
    assert worst["places"] < 1e-12
