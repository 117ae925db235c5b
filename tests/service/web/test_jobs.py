"""Ordering large pictures from the explorer, and watching them being made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.service.waiting import LONG
from tests.service.web.canvas import eventually, wait_for_full
from tests.service.web.stand_in import StandIn, new_job

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


def press(page: Page, name: str) -> None:
    page.locator(name).evaluate("button => button.click()")


def order(page: Page, side: int, output: str = "dzi") -> None:
    press(page, "#order")
    page.fill("#order-side", str(side))
    page.select_option("#order-output", output)
    page.click("#order-submit")


def progress(service: StandIn, **values: Any) -> None:
    service.jobs[0].update(values)
    service.tell.set()


def map_pixel(page: Page, x: int, y: int) -> list[int]:
    """RGBA of the small picture of the first job, 256 pixels wide."""
    script = "([x, y]) => [...document.querySelector('.tile-map').getContext('2d').getImageData(x, y, 1, 1).data]"
    return cast(list[int], page.evaluate(script, [x, y]))


class TestOrder:
    def test_what_is_in_view_is_ordered(self, page: Page, service: StandIn) -> None:
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

    def test_a_png_has_lossless_tiles_and_conditional_models_a_class(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        page = new_page()
        page.goto(f"{service.url}#model=animals&class=4")
        wait_for_full(page, service)
        press(page, "#order")
        page.get_by_role("button", name="32,768").click()
        page.select_option("#order-output", "png")
        expect(page.locator("#order-format")).to_be_hidden()
        page.press("#order-side", "Enter")
        eventually(lambda: len(service.orders) == 1, page)
        assert service.orders[0].items() >= {"width": 32768, "format": "png", "class_index": 4}.items()

    @pytest.mark.parametrize(
        ("side", "output", "cost"),
        [
            (16_384, "dzi", "16,384 × 12,288: 201 megapixels in 1,034 tiles"),
            (65_536, "png", "65,536 × 49,152: 3.22 gigapixels in 12,288 tiles"),
            (500, "tiff", "500 × 375: 0.188 megapixels in 1 tile"),
        ],
    )
    def test_the_cost_is_told_before(self, page: Page, side: int, output: str, cost: str) -> None:
        press(page, "#order")
        page.fill("#order-side", str(side))
        page.select_option("#order-output", output)
        expect(page.locator("#order-cost")).to_have_text(cost)
        page.fill("#order-side", "300000")
        expect(page.locator("#order-submit")).to_be_disabled()

    def test_why_an_order_is_refused(self, page: Page, service: StandIn) -> None:
        service.problems = [
            (413, {}, {"title": "Too large", "detail": "8000×6000 is above the limit of 10 for one job"}),
            (429, {"Retry-After": "60"}, {"title": "Too many", "detail": "32 jobs are unfinished, which is the limit"}),
        ]
        order(page, 8000)
        refused = page.locator("#order-refused")
        expect(refused).to_have_text("8000×6000 is above the limit of 10 for one job.")
        expect(page.locator("#order-dialog")).to_be_visible()
        page.fill("#order-side", "4000")
        page.click("#order-submit")
        expect(refused).to_have_text("32 jobs are unfinished, which is the limit.")
        page.click("#order-submit")
        expect(page.locator("#job-list li")).to_have_count(1)
        first, second, third = service.order_keys
        assert first != second == third  # sent again it is the same order, which is never carried out twice

    def test_the_iiif_address_of_what_is_shown(self, page: Page, service: StandIn) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{service.url}#model=animals&seed=5&psi=0.5&class=3")
        wait_for_full(page, service)
        address = f"{service.url}iiif/3/animals:5:psi=0.5:class=3/info.json"
        expect(page.locator("#iiif")).to_have_value(address)
        press(page, "#copy-iiif")
        expect(page.locator("#iiif-label")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == address


class TestProgress:
    def test_tiles_appear_as_they_are_made(self, page: Page, service: StandIn) -> None:
        order(page, 2000)
        text, bar = page.locator("#job-list p"), page.locator("#job-list progress")
        expect(text).to_have_text("Seed 0, waiting")
        cancel = page.locator("#job-list").get_by_role("button", name="Cancel")
        cancel.focus()
        service.stored = [(8, 0, 0), (9, 0, 0), (11, 0, 0)]  # 512 pixels are nearest to 500×375, level 9
        progress(service, state="running", tiles_done=9, progress=0.225, eta_seconds=27.4)
        expect(text).to_have_text("9 of 40 tiles, 28 s left")
        expect(bar).to_have_js_property("value", 0.225)
        eventually(lambda: service.tiles == ["picture_files/9/0_0.jpg"], page)
        eventually(lambda: map_pixel(page, 60, 60)[0] > 240, page)  # the first tile ends at 65.5
        assert map_pixel(page, 72, 60)[0] < 120  # veiled
        service.stored = [(11, 1, 0)]
        progress(service, tiles_done=13, progress=0.325, eta_seconds=500)
        expect(text).to_have_text("13 of 40 tiles, 9 min left")
        eventually(lambda: map_pixel(page, 72, 60)[0] > 240, page)
        expect(cancel).to_be_focused()  # a new button would not be
        expect(page.locator("#jobs-told")).to_have_text("2,000 × 1,500 Deep Zoom: 13 of 40 tiles, 9 min left")
        progress(service, state="succeeded", tiles_done=40, progress=1.0, eta_seconds=None)
        expect(text).to_have_text("Seed 0, ready")
        expect(page.locator("#jobs-told")).to_have_text("2,000 × 1,500 Deep Zoom: Seed 0, ready")
        assert map_pixel(page, 250, 180)[0] > 240
        assert service.tiles == ["picture_files/9/0_0.jpg"]

    def test_of_one_file_the_live_picture_shows_what_is_done(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.jobs = [new_job(1, {**ORDER, "output": "tiff"})]
        page = new_page()
        page.goto(service.url)
        eventually(lambda: any(asked.width == 256 for asked in service.asked), page)
        asked = next(asked for asked in service.asked if asked.width == 256)
        assert (asked.model, asked.seed, asked.psi, asked.height) == ("a" * 64, 3, 0.5, 128)
        assert asked.region == pytest.approx((0, 0.25, 1, 0.75))
        blue = 3 * 37
        veiled = 0.3 * blue + 0.7 * 19
        eventually(lambda: map_pixel(page, 60, 60)[2] == pytest.approx(veiled, abs=4), page)
        service.stored = [(2, 0, 0)]  # levels are 500, 1000 and 2000 wide
        progress(service, state="running", tiles_done=1)
        eventually(lambda: map_pixel(page, 60, 60)[2] == pytest.approx(blue, abs=4), page)
        assert map_pixel(page, 72, 60)[2] == pytest.approx(veiled, abs=4)

    def test_a_broken_stream_goes_on_where_it_was(self, page: Page, service: StandIn) -> None:
        service.cuts = 1
        order(page, 2000)
        eventually(lambda: len(service.streams) == 1, page)
        progress(service, state="running", tiles_done=5)
        expect(page.locator("#job-list p")).to_have_text("5 of 40 tiles")
        job = service.jobs[0]["id"]
        eventually(lambda: service.streams == [(job, None), (job, "1-0")], page)

    def test_two_jobs_are_followed_and_the_others_asked_for(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.jobs = [new_job(number, ORDER) for number in (4, 3, 2, 1)]  # more streams would leave none for pictures
        page = new_page()
        page.goto(service.url)
        texts = page.locator("#job-list p")
        expect(texts).to_have_text(["Seed 3, waiting"] * 4)
        service.jobs[0].update(state="running", tiles_done=7)
        service.jobs.insert(0, {**new_job(5, ORDER), "state": "cancelled"})  # ordered elsewhere
        expect(texts.first).to_have_text("Seed 3, cancelled")
        expect(texts.nth(1)).to_have_text("7 of 40 tiles")
        assert {int(job, 16) for job, _ in service.streams} == {1, 2}

    def test_an_older_list_does_not_hide_an_order(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page()
        held: list[tuple[Route, APIResponse]] = []
        page.route("**/v1/jobs?limit=*", lambda route: held.append((route, route.fetch())), times=1)
        page.goto(service.url)
        eventually(lambda: len(held) == 1, page)
        order(page, 2000)
        expect(page.locator("#job-list li")).to_have_count(1)
        ((route, empty),) = held
        with page.expect_request("**/v1/jobs?limit=*", timeout=1000 * LONG) as newer:
            route.fulfill(response=empty)
        newer.value.response()
        expect(page.locator("#job-list li")).to_have_count(1)

    def test_a_job_is_cancelled_then_removed(self, page: Page, service: StandIn) -> None:
        order(page, 2000)
        page.locator("#job-list").get_by_role("button", name="Cancel").click()
        expect(page.locator("#job-list p")).to_have_text("Seed 0, cancelled")
        page.get_by_role("button", name="Remove").click()
        expect(page.locator("#jobs")).not_to_be_visible()
        assert service.jobs == []

    def test_jobs_are_there_again_after_a_reload(self, page: Page, service: StandIn) -> None:
        service.jobs = [new_job(1, ORDER), new_job(2, {**ORDER, "output": "png"})]
        service.jobs[1].update(state="failed", error="the store failed: No space left on device")
        page.reload()
        texts = page.locator("#job-list p")
        expect(texts).to_have_text(["Seed 3, waiting", "Failed: the store failed: No space left on device"])
        eventually(lambda: len(service.streams) > 0, page)
        assert [int(job, 16) for job, _ in service.streams] == [1]  # ended jobs have nothing more to tell

    def test_why_a_job_failed(self, page: Page, service: StandIn) -> None:
        order(page, 2000)
        expect(page.locator("#job-list p")).to_have_text("Seed 0, waiting")
        progress(service, state="failed", error="tile 3 failed five times")
        expect(page.locator("#job-list p")).to_have_text("Failed: tile 3 failed five times")

    def test_the_list_folds_away_on_a_phone(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.jobs = [{**new_job(1, ORDER), "state": "succeeded"}]
        page = new_page(has_touch=True, is_mobile=True)
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(service.url)
        toggle = page.get_by_role("button", name="Large pictures")
        expect(toggle).to_have_attribute("aria-expanded", "false")
        expect(page.locator("#job-list")).to_be_hidden()
        toggle.tap()
        expect(toggle).to_have_attribute("aria-expanded", "true")
        for name in ("Large pictures", "Open", "Copy IIIF", "Remove"):
            box = page.get_by_role("button", name=name, exact=name == "Open").bounding_box()
            assert box is not None, name
            assert 0 <= box["x"] < box["x"] + box["width"] <= 360 - 64, name  # beside the view's controls
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


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

    def test_jobs_are_followed_with_a_key(self, page: Page, service: StandIn) -> None:
        progress(service, state="running", tiles_done=3)
        expect(page.locator("#job-list p")).to_have_text("3 of 40 tiles")

    def test_files_are_downloaded_with_a_key(self, page: Page, service: StandIn, tmp_path: Path) -> None:
        progress(service, state="succeeded", progress=1.0)
        with page.expect_download() as started:
            page.locator("#job-list").get_by_role("button", name="Download").click()
        assert started.value.suggested_filename == f"{1:032x}-picture.tiff"
        started.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"the file"

    def test_without_a_key_a_link_does(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.jobs = [{**new_job(1, {**ORDER, "output": "png"}), "state": "succeeded"}]
        page = new_page()
        page.goto(service.url)
        with page.expect_download() as started:
            page.locator("#job-list").get_by_role("link", name="Download").click()
        assert started.value.url == f"{service.url}v1/jobs/{1:032x}/output"
