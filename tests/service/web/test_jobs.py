"""Ordering large pictures from the explorer, and watching them being made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.service.waiting import LONG
from tests.service.web.canvas import eventually, wait_for_full
from tests.service.web.stand_in import StandIn, blue_of, new_job

ORDER = {
    "output": "dzi",
    "format": "jpeg",
    "tile": 512,
    "seed": 3,
    "truncation_psi": 0.5,
    "width": 2000,
    "height": 1000,
    "region": [0, 0.25, 1, 0.75],
}


def open_jobs(page: Page) -> None:
    page.get_by_role("tab", name="Jobs").click()


def order(page: Page) -> None:
    """Just the picture, as Deep Zoom of 2048 × 2048."""
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Format").select_option("dzi")
    page.get_by_label("Pixels", exact=True).select_option("2048")
    page.locator("#save-submit").click()


def progress(service: StandIn, **values: Any) -> None:
    service.jobs[0].update(values)
    service.tell.set()


def map_pixel(page: Page, x: int, y: int) -> list[int]:
    """RGBA of the small picture of the first job, 256 pixels wide."""
    script = "([x, y]) => [...document.querySelector('.tile-map').getContext('2d').getImageData(x, y, 1, 1).data]"
    return cast(list[int], page.evaluate(script, [x, y]))


class TestProgress:
    def test_tiles_appear_as_they_are_made(self, page: Page, service: StandIn) -> None:
        order(page)
        text, bar = page.locator("#job-list p"), page.locator("#job-list progress")
        expect(text).to_have_text("Waiting")
        cancel = page.locator("#job-list").get_by_role("button", name="Cancel")
        cancel.focus()
        service.stored = [(8, 0, 0), (9, 0, 0), (11, 0, 0)]  # level 9 has 512×512 pixels
        progress(service, state="running", tiles_done=9, progress=0.225, eta_seconds=27.4)
        expect(text).to_have_text("9 of 40 tiles, 28 s left")
        expect(bar).to_have_js_property("value", 0.225)
        eventually(lambda: service.tiles == ["picture_files/9/0_0.jpg"], page)
        eventually(lambda: map_pixel(page, 60, 60)[0] > 240, page)  # the first tile ends at 64
        assert map_pixel(page, 72, 60)[0] < 200  # veiled
        service.stored = [(11, 1, 0)]
        progress(service, tiles_done=13, progress=0.325, eta_seconds=500)
        expect(text).to_have_text("13 of 40 tiles, 9 min left")
        eventually(lambda: map_pixel(page, 72, 60)[0] > 240, page)
        expect(cancel).to_be_focused()  # a new button would not be
        expect(page.locator("#jobs-told")).to_have_text(
            "landscapes, seed 0, 2,048 × 2,048 Deep Zoom: 13 of 40 tiles, 9 min left"
        )
        progress(service, state="succeeded", tiles_done=40, progress=1.0, eta_seconds=None)
        expect(text).to_have_text("Ready")
        expect(page.locator("#jobs-told")).to_have_text("landscapes, seed 0, 2,048 × 2,048 Deep Zoom: Ready")
        assert map_pixel(page, 250, 180)[0] > 240
        assert service.tiles == ["picture_files/9/0_0.jpg"]

    @pytest.mark.slow
    def test_of_one_file_the_live_image_shows_what_is_done(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.jobs = [new_job(1, {**ORDER, "output": "tiff"})]
        page = new_page()
        page.goto(service.url)
        eventually(lambda: any(asked.width == 256 for asked in service.asked), page)
        asked = next(asked for asked in service.asked if asked.width == 256)
        assert (asked.model, asked.seed, asked.psi, asked.height) == ("a" * 64, 3, 0.5, 128)
        assert asked.region == pytest.approx((0, 0.25, 1, 0.75))
        blue = blue_of(3, None, 0.5)
        veiled = 0.3 * blue + 0.7 * 128
        eventually(lambda: map_pixel(page, 60, 60)[2] == pytest.approx(veiled, abs=4), page)
        service.stored = [(2, 0, 0)]  # levels are 500, 1000 and 2000 wide
        progress(service, state="running", tiles_done=1)
        eventually(lambda: map_pixel(page, 60, 60)[2] == pytest.approx(blue, abs=4), page)
        assert map_pixel(page, 72, 60)[2] == pytest.approx(veiled, abs=4)

    @pytest.mark.slow
    def test_a_broken_stream_goes_on_where_it_was(self, page: Page, service: StandIn) -> None:
        service.cuts = 1
        order(page)
        eventually(lambda: len(service.streams) == 1, page)
        progress(service, state="running", tiles_done=5)
        expect(page.locator("#job-list p")).to_have_text("5 of 40 tiles")
        job = service.jobs[0]["id"]
        eventually(lambda: service.streams == [(job, None), (job, "1-0")], page)

    @pytest.mark.slow
    def test_two_jobs_are_followed_and_the_others_asked_for(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.jobs = [new_job(number, ORDER) for number in (4, 3, 2, 1)]  # more streams would leave none for pictures
        page = new_page()
        page.goto(service.url)
        texts = page.locator("#job-list p")
        expect(texts).to_have_text(["Waiting"] * 4)
        service.jobs[0].update(state="running", tiles_done=7)
        service.jobs.insert(0, {**new_job(5, ORDER), "state": "cancelled"})  # ordered elsewhere
        expect(texts.first).to_have_text("Cancelled")
        expect(texts.nth(1)).to_have_text("7 of 40 tiles")
        assert {int(job, 16) for job, _ in service.streams} == {1, 2}

    @pytest.mark.slow
    def test_an_older_list_does_not_hide_an_order(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page()
        held: list[tuple[Route, APIResponse]] = []
        page.route("**/v1/jobs?limit=*", lambda route: held.append((route, route.fetch())), times=1)
        page.goto(service.url)
        eventually(lambda: len(held) == 1, page)
        order(page)
        expect(page.locator("#job-list li")).to_have_count(1)
        ((route, empty),) = held
        with page.expect_request("**/v1/jobs?limit=*", timeout=1000 * LONG) as newer:
            route.fulfill(response=empty)
        newer.value.response()
        expect(page.locator("#job-list li")).to_have_count(1)

    def test_a_job_is_cancelled_then_removed_if_confirmed_and_focus_stays_near(
        self, page: Page, service: StandIn
    ) -> None:
        order(page)
        order(page)
        items, jobs = page.locator("#job-list li"), page.locator("#job-list")
        expect(items).to_have_count(2)
        items.first.get_by_role("button", name="Cancel").click()
        expect(items.first.locator("p")).to_have_text("Cancelled")
        items.first.get_by_role("button", name="Remove").click()
        expect(jobs.get_by_role("button", name="Keep")).to_be_focused()
        page.keyboard.press("Enter")
        expect(items.first.get_by_role("button", name="Remove")).to_be_focused()
        page.keyboard.press("Enter")
        jobs.get_by_role("button", name="Remove for good").click()
        expect(items).to_have_count(1)
        expect(items.first.get_by_role("button", name="Cancel")).to_be_focused()
        assert len(service.jobs) == 1

    @pytest.mark.slow
    def test_what_one_tab_does_the_other_shows(self, page: Page, service: StandIn) -> None:
        other = page.context.new_page()
        other.goto(service.url)
        wait_for_full(other, service)
        order(page)
        expect(other.locator("#job-list li")).to_have_count(1)
        progress(service, state="succeeded", progress=1.0)
        open_jobs(other)
        other.get_by_role("button", name="Remove").click()
        other.get_by_role("button", name="Remove for good").click()
        expect(page.locator("#job-list li")).to_have_count(0)
        page.get_by_role("button", name="Favourite").click()
        expect(other.locator("#favourites li")).to_have_count(1)

    @pytest.mark.slow
    def test_jobs_are_there_again_after_a_reload(self, page: Page, service: StandIn) -> None:
        service.jobs = [new_job(1, ORDER), new_job(2, {**ORDER, "output": "png"})]
        service.jobs[1].update(state="failed", error="the store failed: No space left on device")
        page.reload()
        texts = page.locator("#job-list p")
        expect(texts).to_have_text(["Waiting", "Failed: the store failed: No space left on device"])
        eventually(lambda: len(service.streams) > 0, page)
        assert [int(job, 16) for job, _ in service.streams] == [1]  # ended jobs have nothing more to tell

    @pytest.mark.slow
    def test_why_a_job_failed(self, page: Page, service: StandIn) -> None:
        order(page)
        expect(page.locator("#job-list p")).to_have_text("Waiting")
        progress(service, state="failed", error="tile 3 failed five times")
        expect(page.locator("#job-list p")).to_have_text("Failed: tile 3 failed five times")


class TestKeys:
    @pytest.fixture
    def page(self, new_page: Callable[..., Page], service: StandIn) -> Page:
        service.key = "secret"
        service.jobs = [new_job(1, {**ORDER, "output": "tiff"})]
        page = new_page()
        page.goto(service.url)
        page.fill("#key", "secret")
        page.get_by_role("button", name="Use key").click()
        return page

    @pytest.mark.slow
    def test_jobs_are_followed_with_a_key(self, page: Page, service: StandIn) -> None:
        progress(service, state="running", tiles_done=3)
        expect(page.locator("#job-list p")).to_have_text("3 of 40 tiles")

    @pytest.mark.slow
    def test_files_are_downloaded_with_a_key(self, page: Page, service: StandIn, tmp_path: Path) -> None:
        progress(service, state="succeeded", progress=1.0)
        open_jobs(page)
        with page.expect_download() as started:
            page.locator("#job-list").get_by_role("button", name="Download").click()
        assert started.value.suggested_filename == "landscapes-seed3-2000x1000.tiff"
        started.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"the file"

    @pytest.mark.slow
    @pytest.mark.parametrize(("output", "path"), [("png", "output"), ("dzi", "output.zip")])
    def test_without_a_key_a_link_does(
        self, new_page: Callable[..., Page], service: StandIn, output: str, path: str
    ) -> None:
        service.jobs = [{**new_job(1, {**ORDER, "output": output}), "state": "succeeded"}]
        page = new_page()
        page.goto(service.url)
        open_jobs(page)
        with page.expect_download() as started:
            page.locator("#job-list").get_by_role("link", name="Download").click()
        assert started.value.url == f"{service.url}v1/jobs/{1:032x}/{path}"
