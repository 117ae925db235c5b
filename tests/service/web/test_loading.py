"""How pictures are loaded, and what users are told when they cannot be."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, wait_for_full
from tests.service.web.stand_in import Asked, StandIn

TRIES = 30
"""The page goes by how long pictures take, and a busy machine may make any of them take long."""


def next_seed(page: Page, service: StandIn) -> Asked:
    service.forget()
    page.get_by_role("button", name="Next seed").click()
    return wait_for_full(page, service)


class TestLoading:
    @pytest.mark.parametrize(
        ("milliseconds", "sizes"),
        [(900, [(200, 150), (800, 600)]), (3000, [(200, 150), (400, 300), (800, 600)])],
    )
    def test_a_slow_service_is_asked_for_small_pictures_first(
        self, page: Page, service: StandIn, milliseconds: int, sizes: list[tuple[int, int]]
    ) -> None:
        service.render_milliseconds = milliseconds
        told = f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000} s"
        for _ in range(TRIES):
            asked = next_seed(page, service)
            full = page.locator("#time").text_content() == f"800 × 600 in {told}"
            if full and [(each.width, each.height) for each in service.asked] == sizes:
                assert {each.region for each in service.asked} == {asked.region}
                return
        pytest.fail("it was never asked so")

    def test_a_quick_service_is_not(self, page: Page, service: StandIn) -> None:
        for _ in range(TRIES):
            next_seed(page, service)
            if {each.width for each in service.asked} == {800}:
                return
        pytest.fail("it was asked for small pictures each time")

    def test_stale_requests_are_aborted_and_never_pile_up(self, page: Page, service: StandIn) -> None:
        aborted: list[str] = []
        page.on("requestfailed", lambda request: aborted.append(request.url))
        service.forget()
        service.open.clear()
        for seed in (1, 2, 3):
            page.get_by_role("button", name="Next seed").click()
            eventually(lambda seed=seed: len(service.asked) == len(aborted) + 1 == seed, page)  # type: ignore[misc]
        assert [asked.seed for asked in service.asked] == [1, 2, 3]
        service.open.set()
        assert wait_for_full(page, service).seed == 3
        assert len(aborted) == 2


class TestTrouble:
    def test_a_lower_limit_of_the_server_is_respected(self, page: Page, service: StandIn) -> None:
        service.max_pixels = 150_000
        page.get_by_role("button", name="Next seed").click()
        eventually(lambda: canvas_size(page) != (800, 600), page)
        asked = wait_for_full(page, service)
        assert asked.width * asked.height <= 150_000
        assert asked.region == pytest.approx((-1 / 6, 0, 7 / 6, 1), abs=1e-3)
        expect(page.locator("#notice")).to_be_hidden()

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_full_queue_is_tried_again_after_the_time_it_asks_for(
        self, page: Page, service: StandIn, status: int
    ) -> None:
        service.problems = [(status, {"Retry-After": "1"}, {"title": "Busy", "detail": "The queue is full."})]
        page.get_by_role("button", name="Next seed").click()
        expect(page.get_by_role("status")).to_contain_text(["The queue is full. Trying again in 1 s"])
        assert wait_for_full(page, service).seed == 1
        expect(page.locator("#notice")).to_be_hidden()

    def test_other_problems_are_told_and_can_be_tried_again(self, page: Page, service: StandIn) -> None:
        problem = {"title": "Timed out", "detail": "The picture was not drawn in 30 s"}
        service.problems = [(504, {}, problem)]
        page.get_by_role("button", name="Next seed").click()
        expect(page.locator("#notice-text")).to_have_text("The picture was not drawn in 30 s.")
        page.get_by_role("button", name="Try again").click()
        assert wait_for_full(page, service).seed == 1
        expect(page.locator("#notice")).to_be_hidden()

    def test_waits_for_a_worker(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.ready = False
        page = new_page()
        page.goto(service.url)
        expect(page.locator("#notice-text")).to_have_text("Waiting for a worker …")
        assert service.asked == []
        service.ready = True
        wait_for_full(page, service)
        expect(page.locator("#notice")).to_be_hidden()

    def test_the_link_survives_the_wait(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.ready = False
        page = new_page()
        page.goto(f"{service.url}#model=animals&class=4&seed=9")
        expect(page.locator("#notice-text")).to_have_text("Waiting for a worker …")
        page.set_viewport_size({"width": 640, "height": 480})
        page.mouse.click(320, 240)
        page.keyboard.press("+")
        page.wait_for_timeout(500)  # more than a change of the view needs to be written into the link
        service.ready = True
        asked = wait_for_full(page, service)
        assert (asked.model, asked.class_index, asked.seed) == ("animals", 4, 9)
        assert asked.extents[1] == pytest.approx(1)

    def test_tells_when_the_worker_goes_away_later(self, page: Page, service: StandIn) -> None:
        service.open.clear()
        service.ready = False
        page.get_by_role("button", name="Next seed").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.locator("#notice-text")).to_have_text("Waiting for a worker …")
        service.ready = True
        service.open.set()
        wait_for_full(page, service)
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.get_by_role("progressbar")).to_be_hidden()

    def test_asks_for_the_key_until_it_is_right(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.key = "sesame"
        page = new_page()
        page.goto(service.url)
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("API key").fill("guess")
        dialog.get_by_role("button", name="Use key").click()
        expect(dialog.get_by_role("alert")).to_have_text("That key was not accepted.")
        dialog.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        wait_for_full(page, service)
        assert "sesame" not in page.url
        page.reload()
        wait_for_full(page, service)
        expect(dialog).to_be_hidden()

    def test_without_a_key_it_says_so(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.key = "sesame"
        page = new_page()
        page.goto(service.url)
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.locator("#notice-text")).to_have_text("A key is needed.")
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("dialog")).to_be_visible()

    def test_a_service_without_models(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.models = []
        page = new_page()
        page.goto(service.url)
        expect(page.locator("#notice-text")).to_contain_text("No network is served")


class TestPhone:
    def test_everything_is_within_reach(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page(has_touch=True, is_mobile=True)
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(service.url)
        eventually(lambda: bool(service.asked), page)
        expect(page.get_by_role("button", name="Copy link")).to_be_hidden()
        page.get_by_role("button", name="Settings").click()
        for name in ("Previous seed", "Next seed", "Random seed", "Download", "Copy link", "Zoom in", "Whole picture"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box is not None, name
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= 360, name
            assert box["y"] + box["height"] <= 740, name
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
