"""Looking at what a job has made, in the explorer itself."""

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, is_busy, link, pixel, shown, wait_for_full, wheel
from tests.service.web.stand_in import StandIn, new_job
from tests.service.web.test_jobs import ORDER, open_jobs
from tests.service.web.test_view import middle

JOB = f"{1:032x}"


@pytest.fixture
def opened(new_page: Callable[..., Page], service: StandIn) -> Page:
    """Shows a picture of 2000×1000 pixels."""
    service.jobs = [{**new_job(1, ORDER), "state": "succeeded", "progress": 1.0}]
    page = new_page()
    page.goto(f"{service.url}?seed=8&psi=0.9&x=0.4&y=0.5&extent=0.5")
    wait_for_full(page, service)
    open_jobs(page)
    page.get_by_role("button", name="Open", exact=True).click()
    eventually(lambda: shows_stored(page), page)
    return page


def shows_stored(page: Page) -> bool:
    """Whether the canvas shows what the address says of the stored picture, whose frame is twice as wide as high."""
    if is_busy(page) or "job" not in link(page):
        return False
    (x0, y0, x1, y1), (width, height) = shown(page, (0, 0.25, 1, 0.75)).region, canvas_size(page)
    for column, row in ((width // 2, height // 2), (width // 3, height // 2 + 9), (2 * width // 3, height // 2 - 9)):
        x = x0 + (x1 - x0) * (column + 0.5) / width
        y = (y0 + (y1 - y0) * (row + 0.5) / height - 0.25) / 0.5
        if not np.allclose(pixel(page, column, row), (255 * x, 255 * y, 0), atol=3, rtol=0):
            return False
    return True


def test_what_is_shown_is_what_is_told(opened: Page, service: StandIn) -> None:
    x, y, width, height, sent, _ = service.parts[-1]
    assert (x, y, width, height) == (0, 0, 2000, 1000)
    assert canvas_size(opened)[0] > sent > 0.8 * canvas_size(opened)[0]
    assert pixel(opened, 2, 2) == [0, 0, 0]  # beside it there is nothing
    expect(opened.locator("#stored-text")).to_have_text("Viewing a stored picture, 2,000 × 1,000")
    expect(opened.get_by_role("spinbutton", name="Seed")).to_have_value("3")
    expect(opened.locator("#psi")).to_have_value("0.5")
    expect(opened).to_have_title("landscapes · seed 3 · ψ 0.50 – CREPS Explorer")
    assert link(opened).items() >= {"seed": "3", "psi": "0.5", "job": JOB}.items()
    opened.get_by_role("button", name="Share").click()
    iiif = opened.get_by_role("dialog").get_by_label("IIIF", exact=True)
    expect(iiif).to_have_value(f"{service.url}iiif/3/job:{JOB}/info.json")


@pytest.mark.slow
def test_no_more_pixels_are_asked_for_than_there_are(opened: Page, service: StandIn) -> None:
    opened.get_by_role("tab", name="Picture").click()
    opened.get_by_label("Show the numbers").check()
    for _ in range(3):
        wheel(opened, *middle(opened), -400)  # twice as large each time
    eventually(lambda: shows_stored(opened), opened)
    _, _, width, height, sent, rows = service.parts[-1]
    assert (sent, rows) == (width, height)
    assert width < 400
    expect(opened.locator("#region")).to_contain_text("pixels")


@pytest.mark.slow
def test_the_link_opens_it_again(opened: Page, service: StandIn) -> None:
    opened.keyboard.press("+")
    eventually(lambda: "extent" in link(opened), opened)
    opened.reload()
    eventually(lambda: shows_stored(opened), opened)
    expect(opened.locator("#stored")).to_be_visible()
    assert link(opened)["job"] == JOB


@pytest.mark.slow
def test_back_to_live_is_the_view_before(opened: Page, service: StandIn) -> None:
    before = service.asked[-1]
    opened.get_by_role("button", name="Back to live").click()
    after = wait_for_full(opened, service)
    assert after.seed == 8
    assert after.region == pytest.approx(before.region, abs=0.005)
    assert "job" not in link(opened)
    expect(opened.locator("#psi")).to_have_value("0.9")
    expect(opened.locator("#stored")).to_be_hidden()
    opened.go_back()  # one step, though the canvas has grown meanwhile
    eventually(lambda: shows_stored(opened), opened)


@pytest.mark.slow
def test_another_seed_is_drawn_live(opened: Page, service: StandIn) -> None:
    service.forget()
    opened.get_by_role("button", name="Next seed").click()
    assert wait_for_full(opened, service).seed == 4
    assert "job" not in link(opened)


@pytest.mark.slow
def test_a_removed_job_is_closed(opened: Page, service: StandIn) -> None:
    service.forget()
    opened.get_by_role("button", name="Remove").click()
    opened.get_by_role("button", name="Remove for good").click()
    assert wait_for_full(opened, service).seed == 8
    expect(opened.locator("#job-list li")).to_have_count(0)


@pytest.mark.slow
def test_what_is_seen_of_it_is_saved(opened: Page, service: StandIn) -> None:
    opened.get_by_role("button", name="Save").click()
    with opened.expect_download() as started:
        opened.locator("#save-submit").click()
    assert started.value.suggested_filename.startswith("landscapes-seed3-")
    assert service.parts[-1][:4] == (0, 0, 2000, 1000)
