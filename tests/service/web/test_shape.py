"""The shape of the picture: turned by keys and fingers, bent, repeated without a seam."""

import math
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, link, pixel, shown, wait_for_full
from tests.service.web.stand_in import StandIn, colour
from tests.service.web.test_view import middle


def open_shape(page: Page) -> None:
    page.get_by_role("tab", name="Shape").click()


def test_keys_turn_the_picture_and_it_is_turned_before_it_is_drawn_again(page: Page, service: StandIn) -> None:
    region = shown(page).region
    width, height = canvas_size(page)
    side = (region[3] - region[1]) / height
    service.open.clear()
    page.keyboard.press(".")
    page.keyboard.press(".")
    x, y = math.cos(math.radians(30)), -math.sin(math.radians(30))  # what is turned to the right of the middle
    before = colour(0.5 + 100 * side * x, 0.5 + 100 * side * y, 0)
    at = (width // 2 + 100, height // 2)
    eventually(lambda: pixel(page, *at) == pytest.approx(before, abs=3), page)
    expect(page.locator("#viewer")).not_to_have_class("stale")
    service.open.set()
    assert wait_for_full(page, service).region == pytest.approx(region, abs=1e-6)
    assert service.asked[-1].transform == ({"rotate": 30.0},)
    expect(page).to_have_title("landscapes · seed 0 · ψ 0.70 · turned 30° – CREPS Explorer")
    eventually(lambda: link(page).get("rotate") == "30", page)
    page.keyboard.press("Control+z")
    eventually(lambda: "rotate" not in link(page), page)


def test_two_fingers_turn_the_picture_about_themselves(new_page: Callable[..., Page], service: StandIn) -> None:
    page = new_page(has_touch=True)
    page.goto(service.url)
    wait_for_full(page, service)
    touch = page.context.new_cdp_session(page)
    x, y = middle(page)

    def fingers(degrees: float) -> list[dict[str, float]]:
        right, down = 80 * math.cos(math.radians(degrees)), 80 * math.sin(math.radians(degrees))
        return [{"x": x - right, "y": y - down, "id": 0}, {"x": x + right, "y": y + down, "id": 1}]

    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers(0)})
    for degrees in range(10, 71, 10):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers(degrees)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    # The first degrees may be those of fingers that only spread.
    eventually(lambda: 40 < float(link(page).get("rotate", 0)) <= 70, page)
    eventually(lambda: service.asked[-1].transform == ({"rotate": float(link(page)["rotate"])},), page)


def test_the_panel_bends_mirrors_and_repeats_and_the_link_opens_it_again(
    page: Page, new_page: Callable[..., Page], service: StandIn
) -> None:
    open_shape(page)
    page.get_by_label("Lens").fill("0.2")
    page.get_by_label("Swirl").fill("90")
    page.get_by_role("button", name="Left and right").click()
    page.get_by_role("button", name="Turn left by 90°").click()
    page.get_by_role("spinbutton", name="Turn").fill("-45")
    page.get_by_label("Outside the picture", exact=True).select_option("fill")
    page.get_by_role("button", name="Across").click()
    transform = (
        {"lens": {"k1": 0.2, "k2": 0.0}},
        {"swirl": {"degrees": 90.0, "radius": 0.5}},
        {"scale": [-1.0, 1.0]},
        {"rotate": -45.0},
    )
    wait_for_full(page, service)
    eventually(lambda: link(page).get("wrap") == "x", page)
    asked = service.asked[-1]
    assert (asked.transform, asked.outside, asked.wrap) == (transform, "fill", "x")

    again = new_page()
    service.forget()
    again.goto(page.url)
    wait_for_full(again, service)
    asked = service.asked[-1]
    assert (asked.transform, asked.outside, asked.wrap) == (transform, "fill", "x")
    open_shape(again)
    expect(again.get_by_role("button", name="Left and right")).to_have_attribute("aria-pressed", "true")
    expect(again.get_by_label("Swirl")).to_have_value("90")
    again.get_by_role("button", name="As it was").click()
    wait_for_full(again, service)
    assert service.asked[-1].transform == ()
    assert again.locator("#swirl").input_value() == "0"


def test_a_seamless_picture_is_shown_two_by_two(page: Page, service: StandIn) -> None:
    open_shape(page)
    expect(page.get_by_role("button", name="Show 2 × 2")).to_be_disabled()
    for name in ("Across", "Down"):
        page.get_by_role("button", name=name, exact=True).click()
    expect(page.get_by_label("Outside the picture", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Show 2 × 2").click()
    view = wait_for_full(page, service)
    assert view.extents[1] == pytest.approx(2, rel=0.1)
    assert service.asked[-1].wrap == "xy"
    assert "extent" in link(page)
    page.get_by_role("button", name="As it was").click()
    eventually(lambda: "extent" not in link(page), page)
    view = wait_for_full(page, service)
    assert view.extents[1] == pytest.approx(1, rel=0.1)


def test_a_panorama_is_looked_around_in(page: Page, service: StandIn) -> None:
    open_shape(page)
    expect(page.get_by_label("Direction", exact=True)).to_be_hidden()
    page.get_by_label("Bend").select_option("equirect")
    page.get_by_label("Direction", exact=True).fill("40")
    wait_for_full(page, service)
    assert service.asked[-1].transform == ({"equirect": {"fov": 90.0, "yaw": 40.0, "pitch": 0.0}},)
    expect(page.locator("#viewer .frame")).to_be_hidden()  # which no longer bounds the picture


def test_a_job_draws_the_same_shape(page: Page, service: StandIn) -> None:
    page.goto(f"{service.url}?rotate=30&outside=mirror")
    wait_for_full(page, service)
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Format").select_option("tiff")
    page.locator("#save-submit").click()
    eventually(lambda: service.orders, page)
    assert service.orders[0]["transform"] == [{"rotate": 30}]
    assert service.orders[0]["outside"] == "mirror"
