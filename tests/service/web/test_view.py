"""Moving about: what the page asks for and shows as the view changes."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import box, canvas_size, eventually, link, pixel, shown, shows, wait_for_full, wheel
from tests.service.web.stand_in import StandIn


def middle(page: Page) -> tuple[int, int]:
    canvas = box(page, "#canvas")
    return round(canvas["x"] + canvas["width"] / 2), round(canvas["y"] + canvas["height"] / 2)


def drag(page: Page, right: float, down: float) -> None:
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up()


class TestView:
    def test_opens_with_the_whole_image_and_a_margin_at_the_size_of_the_canvas(
        self, page: Page, service: StandIn
    ) -> None:
        asked = service.asked[-1]
        assert (asked.model, asked.seed, asked.class_index, asked.format) == ("landscapes", 0, None, "jpeg")
        assert (asked.width, asked.height) == canvas_size(page)
        assert asked.region == pytest.approx(shown(page).region, abs=1e-9)
        for low, high in ((asked.region[0], asked.region[2]), (asked.region[1], asked.region[3])):
            assert low + high == pytest.approx(1, abs=0.01)
            assert 0 < -low < 0.2
        frame, canvas = box(page, "#viewer .frame"), box(page, "#canvas")
        assert frame["width"] == pytest.approx(frame["height"], abs=1)
        assert canvas["x"] < frame["x"] < frame["x"] + frame["width"] < canvas["x"] + canvas["width"]

    def test_a_drag_moves_the_image_with_the_pointer_and_only_new_pixels_are_asked_for(
        self, page: Page, service: StandIn
    ) -> None:
        width, height = canvas_size(page)
        before = shown(page).region
        service.forget()
        drag(page, 60, 30)
        after = wait_for_full(page, service).region
        pixel_side = (before[2] - before[0]) / width
        moved = (-60 * pixel_side, -30 * pixel_side) * 2
        assert after == pytest.approx(tuple(a + b for a, b in zip(before, moved, strict=True)), abs=1e-6)
        assert service.asked
        assert all((asked.width, asked.height) != (width, height) for asked in service.asked)
        service.open.clear()
        drag(page, -60, -30)  # back: everything is there
        eventually(lambda: shown(page).region == pytest.approx(before, abs=1e-6) and shows(page, shown(page)), page)

    @pytest.mark.slow
    def test_the_last_image_is_shown_moved_until_the_new_one_is_there(self, page: Page, service: StandIn) -> None:
        service.open.clear()
        before = pixel(page, 100, 120)
        drag(page, 150, 100)
        eventually(lambda: pixel(page, 250, 220) == pytest.approx(before, abs=1), page)
        assert pixel(page, 20, 20) == [0, 0, 0]  # newly in view, and not drawn yet

    @pytest.mark.slow
    def test_zoomed_out_again_the_whole_image_is_there_at_once(self, page: Page, service: StandIn) -> None:
        whole = shown(page)
        for _ in range(6):
            wheel(page, *middle(page), -400)
            wait_for_full(page, service)
        service.open.clear()
        page.keyboard.press("0")
        eventually(lambda: shows(page, whole), page)

    def test_the_wheel_keeps_the_point_under_the_pointer(self, page: Page, service: StandIn) -> None:
        before = shown(page).region
        canvas = box(page, "#canvas")
        for _ in range(4):
            wheel(page, canvas["x"] + 0.75 * canvas["width"], canvas["y"] + 0.25 * canvas["height"], -200)
        after = wait_for_full(page, service).region
        assert after[2] - after[0] == pytest.approx((before[2] - before[0]) / 4, rel=1e-5)
        for axis, share in ((0, 0.75), (1, 0.25)):
            under = [region[axis] + share * (region[axis + 2] - region[axis]) for region in (before, after)]
            assert under[0] == pytest.approx(under[1], abs=0.005)  # views lie on pixels

    @pytest.mark.slow
    def test_zooms_in_to_the_limit_of_the_service(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page()
        page.goto(f"{service.url}?model=landscapes&x=0.4&y=0.6&extent=3e-9")
        wait_for_full(page, service)
        for _ in range(4):
            wheel(page, *middle(page), -1000)
        found = wait_for_full(page, service)
        assert 1e-9 <= min(found.extents) < 1.1e-9
        expect(page.locator("#detail")).to_be_visible()
        page.get_by_role("button", name="Whole picture").click()
        eventually(lambda: shown(page).extents[0] > 1 and shows(page, shown(page)), page)

    @pytest.mark.slow
    def test_detail_goes_on_where_it_was_learnt_from_patches(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        """5 pixels of the training resolution are in view, and 20 of the largest images that one network has seen."""
        page = new_page()
        for model, ends in (("landscapes", True), ("animals", False)):
            page.goto(f"{service.url}?model={model}&x=0.4&y=0.6&extent=0.04")
            wait_for_full(page, service)
            expect(page.locator("#detail")).to_be_visible(visible=ends)

    @pytest.mark.slow
    def test_zooms_and_pans_out_to_the_bounds_of_the_service(self, page: Page, service: StandIn) -> None:
        for _ in range(10):
            wheel(page, *middle(page), 1000)
        wait_for_full(page, service)
        for _ in range(3):
            drag(page, 200, 200)
        eventually(lambda: shown(page).region[:2] == pytest.approx((-1, -1)), page)
        assert max(shown(page).extents) > 2.7
        assert all(-1 <= value <= 2 for asked in service.asked for value in asked.region)

    def test_double_click_keys_and_buttons(self, page: Page, service: StandIn) -> None:
        whole = shown(page).extents[1]
        page.mouse.dblclick(*middle(page))
        assert wait_for_full(page, service).extents[1] == pytest.approx(whole / 2)
        page.keyboard.press("+")
        before = wait_for_full(page, service)
        assert before.extents[1] == pytest.approx(whole / 2**1.5, rel=0.01)
        page.keyboard.press("ArrowRight")
        after = wait_for_full(page, service)
        assert after.region[0] == pytest.approx(before.region[0] + 0.1 * before.extents[0], abs=0.01)
        page.keyboard.press("-")
        page.keyboard.press("Home")
        eventually(lambda: shown(page).extents[1] == pytest.approx(whole), page)
        assert "extent" not in link(page)

    @pytest.mark.slow
    def test_keys_make_the_view_glide(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page(reduced_motion="no-preference")
        page.goto(service.url)
        whole = wait_for_full(page, service).extents[1]
        page.keyboard.press("+")
        page.keyboard.press("+")
        eventually(lambda: shown(page).extents[1] == pytest.approx(whole / 2, rel=0.01), page)
        eventually(lambda: shows(page, shown(page)), page)

    @pytest.mark.slow
    def test_two_fingers_pinch(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page(has_touch=True)
        page.goto(service.url)
        before = wait_for_full(page, service)
        touch = page.context.new_cdp_session(page)
        x, y = middle(page)
        fingers: list[dict[str, float]] = [{"x": x - 50, "y": y, "id": 0}, {"x": x + 50, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers})
        for spread in range(60, 101, 10):  # to twice the distance
            fingers = [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}]
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        after = wait_for_full(page, service)
        assert after.extents[0] == pytest.approx(before.extents[0] / 2, rel=1e-5)
        centre = [(view.region[0] + view.region[2]) / 2 for view in (before, after)]
        assert centre[0] == pytest.approx(centre[1], abs=0.01)

    @pytest.mark.slow
    def test_asks_for_the_pixels_of_the_screen_within_reason(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        page = new_page(device_scale_factor=2)
        page.goto(service.url)
        assert wait_for_full(page, service).width == 2 * box(page, "#canvas")["width"]
        page.set_viewport_size({"width": 2800, "height": 1700})
        found = wait_for_full(page, service)
        assert found.width * found.height == pytest.approx(2560 * 1600, rel=1e-3)
        x, y = found.extents
        assert x / found.width == pytest.approx(y / found.height, rel=1e-9)

    def test_the_minimap_shows_where_the_view_is_and_moves_it(self, page: Page, service: StandIn) -> None:
        expect(page.locator("#minimap")).to_be_hidden()
        page.keyboard.press("+")
        page.keyboard.press("+")
        page.keyboard.press("+")
        before = wait_for_full(page, service)
        mark, whole = box(page, "#minimap-mark"), box(page, "#minimap-canvas")
        assert mark["x"] + mark["width"] / 2 == pytest.approx(whole["x"] + whole["width"] / 2, abs=2)
        page.mouse.click(whole["x"] + 0.25 * whole["width"], whole["y"] + 0.5 * whole["height"])
        after = wait_for_full(page, service)
        assert sum(after.region[::2]) / 2 == pytest.approx(0.25, abs=0.04)
        assert after.extents == pytest.approx(before.extents)
