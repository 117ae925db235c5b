"""Moving about: what the page asks for and shows as the view changes."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import eventually, link, pixel, shows, wait_for_full, wheel
from tests.service.web.stand_in import StandIn


class TestView:
    def test_opens_with_the_whole_picture_at_the_size_of_the_canvas(self, page: Page, service: StandIn) -> None:
        asked = service.asked[-1]
        assert (asked.model, asked.seed, asked.class_index, asked.format) == ("landscapes", 0, None, "jpeg")
        assert asked.region == pytest.approx((-1 / 6, 0, 7 / 6, 1), abs=1e-12)
        assert shows(page, asked)

    def test_a_drag_moves_the_picture_with_the_pointer(self, page: Page, service: StandIn) -> None:
        before = service.asked[-1].region
        page.mouse.move(400, 300)
        page.mouse.down()
        page.mouse.move(460, 330, steps=4)
        page.mouse.up()
        after = wait_for_full(page, service).region
        moved = (-60 / 600, -30 / 600) * 2  # plane units a pixel: 1/600
        assert after == pytest.approx(tuple(a + b for a, b in zip(before, moved, strict=True)), abs=1e-12)

    def test_the_last_picture_is_shown_moved_until_the_new_one_is_there(self, page: Page, service: StandIn) -> None:
        service.open.clear()
        before = pixel(page, 300, 200)
        page.mouse.move(400, 300)
        page.mouse.down()
        page.mouse.move(500, 400, steps=3)
        page.mouse.up()
        eventually(lambda: pixel(page, 400, 300) == pytest.approx(before, abs=1), page)
        assert pixel(page, 20, 20) == [0x0F, 0x10, 0x13]  # newly in view, and not drawn yet: the ground

    def test_zoomed_out_again_the_whole_picture_is_there_at_once(self, page: Page, service: StandIn) -> None:
        whole = service.asked[-1]
        for _ in range(6):
            wheel(page, 500, 200, -500)
            wait_for_full(page, service)
        service.open.clear()
        page.keyboard.press("0")
        eventually(lambda: shows(page, whole), page)

    def test_the_wheel_keeps_the_point_under_the_pointer(self, page: Page, service: StandIn) -> None:
        before = service.asked[-1].region
        for _ in range(4):
            wheel(page, 600, 150, -200)
        after = wait_for_full(page, service).region
        assert after[2] - after[0] < 0.5 * (before[2] - before[0])
        for axis, share in ((0, 600 / 800), (1, 150 / 600)):
            under = [region[axis] + share * (region[axis + 2] - region[axis]) for region in (before, after)]
            assert under[0] == pytest.approx(under[1], abs=1e-12)

    def test_zooms_in_to_the_limit_of_the_service(self, page: Page, service: StandIn) -> None:
        for _ in range(60):
            wheel(page, 533, 217, -1000)
        asked = wait_for_full(page, service)
        assert min(asked.extents) == pytest.approx(1e-9, rel=1e-5)
        assert all(min(asked.extents) >= 1e-9 for asked in service.asked)
        expect(page.locator("#magnification")).to_have_text("×1·10⁹")

    def test_zooms_and_pans_out_to_the_bounds_of_the_service(self, page: Page, service: StandIn) -> None:
        for _ in range(10):
            wheel(page, 700, 50, 1000)
        page.mouse.down()
        page.mouse.move(0, 599, steps=3)
        page.mouse.up()
        asked = wait_for_full(page, service)
        assert asked.extents == pytest.approx((3, 3 * 600 / 800))
        assert asked.region[0] == -1
        assert asked.region[1] == -1
        assert all(-1 <= value <= 2 for asked in service.asked for value in asked.region)

    def test_double_click_keys_and_buttons(self, page: Page, service: StandIn) -> None:
        page.mouse.dblclick(400, 300)
        assert wait_for_full(page, service).extents[1] == pytest.approx(0.5)
        page.keyboard.press("+")
        assert wait_for_full(page, service).extents[1] == pytest.approx(0.5 / 1.5)
        page.keyboard.press("ArrowRight")
        assert wait_for_full(page, service).region[0] == pytest.approx(0.5 - 2 / 9 + 0.1 * 4 / 9)
        page.get_by_role("button", name="Zoom out").click()
        assert wait_for_full(page, service).extents[1] == pytest.approx(0.5)
        page.keyboard.press("Home")
        assert wait_for_full(page, service).region == pytest.approx((-1 / 6, 0, 7 / 6, 1), abs=1e-12)

    def test_keys_make_the_view_glide(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page(reduced_motion="no-preference")
        page.goto(service.url)
        wait_for_full(page, service)
        page.keyboard.press("+")
        page.keyboard.press("+")
        eventually(lambda: link(page).get("extent") == "0.4444444", page)
        wait_for_full(page, service)
        assert service.asked[-1].extents[1] == pytest.approx(1 / 1.5**2)

    def test_two_fingers_pinch(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page(has_touch=True)
        page.goto(service.url)
        before = wait_for_full(page, service).region
        touch = page.context.new_cdp_session(page)
        fingers: list[dict[str, float]] = [{"x": 500, "y": 300, "id": 0}, {"x": 600, "y": 300, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers})
        for spread in range(10, 101, 10):  # to 450 … 650: twice the distance, the same centre
            fingers = [{"x": 500 - spread / 2, "y": 300, "id": 0}, {"x": 600 + spread / 2, "y": 300, "id": 1}]
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        after = wait_for_full(page, service).region
        assert after[2] - after[0] == pytest.approx((before[2] - before[0]) / 2, rel=1e-6)
        centre = [region[0] + 550 / 800 * (region[2] - region[0]) for region in (before, after)]
        assert centre[0] == pytest.approx(centre[1], abs=1e-9)

    def test_asks_for_the_pixels_of_the_screen_within_reason(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        page = new_page(device_scale_factor=2)
        page.goto(service.url)
        assert wait_for_full(page, service).width == 1600
        page.set_viewport_size({"width": 2400, "height": 1500})
        asked = wait_for_full(page, service)
        assert asked.width * asked.height == pytest.approx(2560 * 1600, rel=1e-3)
        assert asked.width / asked.height == pytest.approx(1.6, rel=1e-3)
        x, y = asked.extents
        assert x / asked.width == pytest.approx(y / asked.height, rel=1e-12)


class TestGeometry:
    """view.js by itself, for many views."""

    def test_zoom_keeps_its_anchor_and_clamped_views_keep_within_the_bounds(self, page: Page) -> None:
        worst = page.evaluate(
            """async () => {
                const view = await import("/web/view.js");
                const random = (low, high) => low + (high - low) * Math.random();
                const worst = { anchor: 0, reach: 0, extent: Infinity, square: 0 };
                for (let i = 0; i < 20000; i++) {
                    const size = { width: Math.ceil(random(1, 3000)), height: Math.ceil(random(1, 2000)) };
                    const any = { x: random(-3, 4), y: random(-3, 4), extent: 10 ** random(-12, 2) };
                    const start = view.clampView(any, size);
                    const [x0, y0, x1, y1] = view.regionOf(start, size);
                    worst.reach = Math.max(worst.reach, -1 - x0, -1 - y0, x1 - 2, y1 - 2);
                    worst.extent = Math.min(worst.extent, x1 - x0, y1 - y0);
                    const square = (x1 - x0) / (y1 - y0) / (size.width / size.height) - 1;
                    if (start.extent > 1e-3) worst.square = Math.max(worst.square, Math.abs(square));
                    const anchor = { x: random(0, size.width), y: random(0, size.height) };
                    const before = view.planePoint(start, size, anchor);
                    const closer = view.zoom(start, size, anchor, random(1, 10));
                    const after = view.planePoint(closer, size, anchor);
                    const distance = Math.hypot(after.x - before.x, after.y - before.y);
                    worst.anchor = Math.max(worst.anchor, distance / view.pixelSize(closer, size));
                }
                return worst;
            }"""
        )
        assert worst["reach"] <= 0
        assert worst["extent"] >= 1e-9
        assert worst["square"] < 1e-9
        assert worst["anchor"] < 0.01  # of a pixel, at magnifications up to 10⁹

    def test_a_glide_ends_where_it_should_and_grows_evenly(self, page: Page) -> None:
        halfway, end = page.evaluate(
            """async () => {
                const { between } = await import("/web/view.js");
                const [from, to] = [{ x: 0.5, y: 0.5, extent: 1 }, { x: 0.3, y: 0.7, extent: 0.01 }];
                return [between(from, to, 0.5), between(from, to, 1)];
            }"""
        )
        assert halfway["extent"] == pytest.approx(0.1)
        assert halfway["x"] == pytest.approx(0.5 - 0.2 * 0.9 / 0.99)
        assert end == {"x": 0.3, "y": 0.7, "extent": 0.01}
