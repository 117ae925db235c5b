"""Favourites, recent pictures, and two of them side by side."""

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import box, eventually, shown, wait_for_full, wheel
from tests.service.web.stand_in import StandIn


def open_gallery(page: Page) -> None:
    page.get_by_role("tab", name="Gallery").click()


def thumbnail_colour(page: Page, name: str) -> list[int]:
    """RGB of the middle of the first thumbnail of a list."""
    script = """async (image) => {
        await image.decode();
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        context.drawImage(image, image.naturalWidth / 2, image.naturalHeight / 2, 1, 1, 0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    colour: list[int] = page.locator(f"#{name} img").first.evaluate(script)
    return colour


def test_favourites_and_recent_pictures_are_kept_and_shown_again(page: Page, service: StandIn) -> None:
    open_gallery(page)
    expect(page.locator("#recent li")).to_have_count(1)
    heart = page.get_by_role("button", name="Favourite")
    heart.click()
    expect(heart).to_have_attribute("aria-pressed", "true")
    assert thumbnail_colour(page, "favourites") == pytest.approx([127, 127, 0], abs=6)
    page.get_by_role("button", name="Next seed").click()
    wait_for_full(page, service)
    expect(heart).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#recent li")).to_have_count(2)
    page.reload()
    wait_for_full(page, service)
    open_gallery(page)
    expect(page.locator("#recent li")).to_have_count(2)
    page.locator("#favourites").get_by_role("button", name="Show landscapes · seed 0 · ψ 0.70").click()
    eventually(lambda: shown(page).seed == 0, page)
    page.keyboard.press("f")
    expect(page.locator("#favourites li")).to_have_count(0)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#recent-none")).to_be_visible()


@pytest.mark.slow
def test_two_pictures_are_compared_in_the_same_view(page: Page, service: StandIn) -> None:
    page.get_by_role("button", name="Favourite").click()
    page.get_by_role("button", name="Next seed").click()
    wait_for_full(page, service)
    open_gallery(page)
    service.forget()
    page.locator("#favourites").get_by_role("button", name="Compare").click()
    left, right = box(page, "#canvas"), box(page, "#compare canvas")
    assert left["x"] + left["width"] <= right["x"]
    assert left["width"] == pytest.approx(right["width"], abs=1)
    eventually(lambda: {asked.seed for asked in service.asked} == {0, 1}, page)
    wheel(page, right["x"] + 50, right["y"] + 100, -400)
    wait_for_full(page, service)

    region = pytest.approx(shown(page).region, abs=1e-6)
    eventually(lambda: any(asked.seed == 0 and asked.region == region for asked in service.asked), page)
    page.keyboard.press("Escape")
    expect(page.locator("#compare")).to_be_hidden()
    expect(page.locator("#canvas")).to_be_focused()
