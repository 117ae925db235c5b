"""How pictures are loaded, and what users are told when they cannot be."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, shown, shows, wait_for_full, wheel
from tests.service.web.stand_in import Asked, StandIn
from tests.service.web.test_view import middle


def next_seed(page: Page, service: StandIn) -> list[Asked]:
    service.forget()
    page.get_by_role("button", name="Next seed").click()
    wait_for_full(page, service)
    return list(service.asked)


class TestLoading:
    def test_a_slow_service_is_asked_for_a_quarter_of_the_size_first(self, page: Page, service: StandIn) -> None:
        service.render_milliseconds = 3000
        next_seed(page, service)
        small, full = next_seed(page, service)
        assert (full.width, full.height) == canvas_size(page)
        assert full.width / 6 < small.width < full.width / 2.5
        assert small.region[0] <= full.region[0] < full.region[2] <= small.region[2]
        service.forget()
        wheel(page, *middle(page), -200)  # twice as close: what is there is as good as a quarter of the size
        wait_for_full(page, service)
        assert {(asked.width, asked.height) for asked in service.asked} == {canvas_size(page)}

    @pytest.mark.slow
    def test_a_quick_service_is_not(self, page: Page, service: StandIn) -> None:
        page.evaluate("performance.now = () => 0")  # however long pictures take on a busy machine
        next_seed(page, service)
        assert [(asked.width, asked.height) for asked in next_seed(page, service)] == [canvas_size(page)]

    @pytest.mark.slow
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

    def test_views_that_come_back_have_the_same_address(
        self, page: Page, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.render_milliseconds = 3000
        next_seed(page, service)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "crop=" in request.url else None)
        wheel(page, *middle(page), -200)
        wait_for_full(page, service)
        first, address = asked[-1], page.url
        other = new_page()
        other.on("request", lambda request: asked.append(request.url))
        other.goto(address)
        wait_for_full(other, service)
        assert asked.count(first) == 2

    @pytest.mark.slow
    def test_while_it_waits_the_page_tells_for_how_long(self, page: Page, service: StandIn) -> None:
        service.render_milliseconds = 60_000
        next_seed(page, service)
        expect(page.locator("#waiting")).to_be_hidden()
        service.open.clear()
        page.get_by_role("button", name="Next seed").click()
        expect(page.locator("#waiting")).to_have_text(re.compile(r"Drawing · \d+ s of about \d"))
        expect(page.locator("#viewer")).to_have_class("viewer stale")  # what is shown belongs to the seed before
        expect(page.locator("#time")).to_be_empty()
        service.open.set()
        wait_for_full(page, service)
        expect(page.locator("#viewer")).to_have_class("viewer")
        expect(page.locator("#waiting")).to_be_hidden()


class TestPrefetch:
    @pytest.mark.slow
    def test_neighbours_and_the_next_zoom_are_there_before(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        page = new_page(prefetch=True)
        page.goto(f"{service.url}?model=landscapes&seed=0&psi=0.7&x=0.5&y=0.5&extent=0.3")
        view = wait_for_full(page, service)

        def prefetched() -> bool:
            wide = [asked for asked in service.asked if asked.region[0] < view.region[0] - 0.05]
            return any(asked.region[2] > view.region[2] + 0.05 for asked in wide)

        eventually(prefetched, page)
        eventually(lambda: any(asked.extents[0] > 1 for asked in service.asked), page)  # for the minimap
        count = len(service.asked)
        page.wait_for_timeout(1000)
        assert len(service.asked) <= count + 3  # it ends
        service.open.clear()
        page.keyboard.press("ArrowRight")
        eventually(lambda: shown(page).region[0] > view.region[0], page)
        eventually(lambda: shows(page, shown(page), tolerance=5), page)

    @pytest.mark.slow
    def test_a_busy_service_is_left_alone(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.queue_milliseconds = 500
        page = new_page(prefetch=True)
        page.goto(service.url)
        wait_for_full(page, service)
        page.wait_for_timeout(1500)
        assert len(service.asked) <= 4  # one that told so, after a preview and the picture


class TestTrouble:
    @pytest.mark.slow
    def test_a_lower_limit_of_the_server_is_respected(self, page: Page, service: StandIn) -> None:
        before = canvas_size(page)
        service.max_pixels = 150_000
        page.get_by_role("button", name="Next seed").click()
        eventually(lambda: canvas_size(page) != before, page)
        found = wait_for_full(page, service)
        assert found.width * found.height <= 150_000
        expect(page.locator("#notice")).to_be_hidden()

    @pytest.mark.slow
    def test_no_more_pixels_are_asked_for_than_the_server_says(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.told_max_pixels = service.max_pixels = 100_000
        page = new_page()
        page.goto(service.url)
        found = wait_for_full(page, service)
        assert 90_000 < found.width * found.height <= 100_000

    @pytest.mark.slow
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

    def test_a_proxy_may_hide_the_probes(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page()
        page.route("**/readyz", lambda route: route.fulfill(status=404))
        page.goto(service.url)
        wait_for_full(page, service)
        expect(page.locator("#notice")).to_be_hidden()

    @pytest.mark.slow
    def test_the_link_survives_the_wait(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.ready = False
        page = new_page()
        page.goto(f"{service.url}?model=animals&class=4&seed=9")
        expect(page.locator("#notice-text")).to_have_text("Waiting for a worker …")
        page.mouse.click(200, 300)
        page.keyboard.press("+")
        page.wait_for_timeout(700)  # more than a change of the view needs to be written into the link
        service.ready = True
        found = wait_for_full(page, service)
        assert (found.model, found.class_index, found.seed) == ("animals", 4, 9)
        assert found.extents[1] > 1

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_without_a_key_it_says_so_and_one_can_be_given_later(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.key = "sesame"
        page = new_page()
        page.goto(service.url)
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.locator("#notice-text")).to_have_text("A key is needed.")
        page.get_by_role("button", name="API key").click()
        page.get_by_role("dialog").get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        wait_for_full(page, service)

    @pytest.mark.slow
    def test_a_service_without_models(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.models = []
        page = new_page()
        page.goto(service.url)
        expect(page.locator("#notice-text")).to_contain_text("No network is served")
