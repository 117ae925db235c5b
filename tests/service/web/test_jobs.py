"""Ordering large pictures from the explorer, and watching them being made."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import eventually, wait_for_full
from tests.service.web.stand_in import StandIn, new_job

ORDER = {"output": "dzi", "format": "jpeg", "tile": 512, "seed": 3, "width": 2000, "height": 1000}


def order(page: Page, side: int, output: str = "dzi") -> None:
    page.locator("#order").evaluate("button => button.click()")
    page.fill("#order-side", str(side))
    page.select_option("#order-output", output)
    page.click("#order-submit")


def progress(service: StandIn, **values: Any) -> None:
    service.jobs[0].update(values)
    service.tell.set()


def test_what_is_in_view_is_ordered(page: Page, service: StandIn) -> None:
    page.keyboard.press("+")
    wait_for_full(page, service)
    order(page, 8000)
    eventually(lambda: len(service.orders) == 1, page)
    (body,) = service.orders
    region = body.pop("region")
    assert region == pytest.approx(service.asked[-1].region)
    assert body == {
        "model": "landscapes",
        "seed": 0,
        "truncation_psi": 0.7,
        "width": 8000,
        "height": 6000,
        "tile": 512,
        "output": "dzi",
        "format": "jpeg",
    }
    expect(page.locator("#order-dialog")).not_to_be_visible()
    expect(page.locator("#job-list li")).to_contain_text("8,000 × 6,000 Deep Zoom")


@pytest.mark.parametrize(
    ("side", "output", "cost"),
    [
        (16_384, "dzi", "16,384 × 12,288: 201 megapixels in 1,034 tiles"),
        (65_536, "png", "65,536 × 49,152: 3.22 gigapixels in 12,288 tiles"),
        (500, "tiff", "500 × 375: 0.188 megapixels in 1 tile"),
    ],
)
def test_the_cost_is_told_before(page: Page, side: int, output: str, cost: str) -> None:
    page.locator("#order").evaluate("button => button.click()")
    page.fill("#order-side", str(side))
    page.select_option("#order-output", output)
    expect(page.locator("#order-cost")).to_have_text(cost)
    page.fill("#order-side", "300000")
    expect(page.locator("#order-submit")).to_be_disabled()


def test_why_an_order_is_refused(page: Page, service: StandIn) -> None:
    service.problems.append(
        (413, {}, {"title": "Too large", "detail": "8000×6000 is above the limit of 10 for one job"})
    )
    order(page, 8000)
    expect(page.locator("#order-refused")).to_have_text("8000×6000 is above the limit of 10 for one job.")
    expect(page.locator("#order-dialog")).to_be_visible()
    page.click("#order-submit")
    expect(page.locator("#job-list li")).to_have_count(1)


def test_tiles_appear_as_they_are_made(page: Page, service: StandIn) -> None:
    order(page, 2000)
    text, bar = page.locator("#job-list p"), page.locator("#job-list progress")
    expect(text).to_have_text("Waiting, 0 of 40 tiles")
    service.stored = [(8, 0, 0), (9, 0, 0), (11, 0, 0)]  # 512 pixels are nearest to 500×375, level 9
    progress(service, state="running", tiles_done=13, progress=0.325, eta_seconds=27.4)
    expect(text).to_have_text("13 of 40 tiles, 28 s left")
    expect(bar).to_have_js_property("value", 0.325)
    eventually(lambda: service.tiles == ["picture_files/9/0_0.jpg"], page)
    finished, waiting = "[10, 10]", "[250, 180]"
    pixel = "([x, y]) => [...document.querySelector('.tile-map').getContext('2d').getImageData(x, y, 1, 1).data]"
    eventually(lambda: page.evaluate(f"({pixel})({finished})")[0] > 240, page)
    assert page.evaluate(f"({pixel})({waiting})")[0] < 120  # dimmed
    progress(service, state="succeeded", tiles_done=40, progress=1.0, eta_seconds=None)
    expect(text).to_have_text("Ready, seed 0")
    expect(page.locator("#job-list a")).to_have_attribute("href", f"iiif/3/job:{1:032x}/full/!2048,2048/0/default.jpg")


def test_a_file_can_be_downloaded(page: Page, service: StandIn) -> None:
    order(page, 2000, "tiff")
    progress(service, state="succeeded", progress=1.0)
    expect(page.locator("#job-list a")).to_have_attribute("href", f"v1/jobs/{1:032x}/output")


def test_a_job_is_cancelled_then_removed(page: Page, service: StandIn) -> None:
    order(page, 2000)
    page.locator("#job-list").get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-list p")).to_have_text("Cancelled")
    page.locator("#job-list").get_by_role("button", name="Remove").click()
    expect(page.locator("#jobs")).not_to_be_visible()
    assert service.jobs == []


def test_jobs_are_there_again_after_a_reload(page: Page, service: StandIn) -> None:
    service.jobs = [new_job(1, ORDER), new_job(2, {**ORDER, "output": "png"})]
    service.jobs[1].update(state="failed", error="the store failed: No space left on device")
    page.reload()
    texts = page.locator("#job-list p")
    expect(texts).to_have_text(["Waiting, 0 of 40 tiles", "Failed: the store failed: No space left on device"])


def test_jobs_with_a_key(new_page: Callable[..., Page], service: StandIn) -> None:
    service.key = "secret"
    service.jobs = [new_job(1, ORDER)]
    page = new_page()
    page.goto(service.url)
    page.fill("#key", "secret")
    page.get_by_role("button", name="Use key").click()
    progress(service, state="running", tiles_done=3)
    expect(page.locator("#job-list p")).to_have_text("3 of 40 tiles")


def test_the_iiif_address_of_what_is_shown(page: Page, service: StandIn) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{service.url}#model=animals&seed=5&psi=0.5&class=3")
    wait_for_full(page, service)
    page.locator("#copy-iiif").evaluate("button => button.click()")
    expect(page.locator("#iiif-label")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{service.url}iiif/3/animals:5:psi=0.5:class=3/info.json"
