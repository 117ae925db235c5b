"""The explorer page with the real service behind it."""

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.service.waiting import LONG
from tests.service.web.canvas import eventually, is_settled, shown

pytestmark = pytest.mark.slow


def open_page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 720, "height": 400}, reduced_motion="reduce")
    page.set_default_timeout(1000 * LONG)
    return page


def canvas_pixels(page: Page) -> NDArray[np.int64]:
    """[H, W, 3], 0 … 255."""
    png = base64.b64decode(page.evaluate("canvas.toDataURL('image/png')").partition(",")[2])
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def test_shows_and_saves_what_the_service_draws(browser: Browser, address: str, tmp_path: Path) -> None:
    page = open_page(browser)
    page.goto(f"{address}/?model=noise&seed=4&psi=0.8&x=0.5&y=0.5&extent=0.6")
    eventually(lambda: is_settled(page), page)
    view = shown(page)

    region = ",".join(map(str, view.region))
    response = page.request.get(
        f"{address}/v1/images/noise/4.png",
        params={"width": view.width, "height": view.height, "psi": 0.8, "region": region},
    )
    with Image.open(io.BytesIO(response.body())) as image:
        expected = np.asarray(image.convert("RGB"), dtype=int)
    assert expected.std() > 10  # something is there to be compared
    eventually(lambda: bool(np.abs(canvas_pixels(page) - expected).mean() < 4), page)  # what JPEG may change

    page.get_by_role("button", name="Save").click()
    page.get_by_label("What", exact=True).select_option("view")
    page.get_by_label("Pixels", exact=True).select_option(str(max(view.width, view.height)))
    with page.expect_download() as started:
        page.locator("#save-submit").click()
    started.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as image:
        assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - expected).max() <= 1  # up to rounding of the region
    page.close()


def test_the_documentation_is_shown_within_its_policy(browser: Browser, address: str) -> None:
    faults: list[str] = []
    page = open_page(browser)
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{address}/docs")
    page.get_by_text("/v1/images/{model}/{seed}.{format}").first.click()
    page.get_by_text("truncation ψ", exact=False).first.wait_for()
    assert faults == []
    page.close()


def test_a_large_image_is_ordered_made_and_looked_at(browser: Browser, address: str, tmp_path: Path) -> None:
    page = open_page(browser)
    page.goto(f"{address}/?model=noise&seed=5&psi=0.8")
    eventually(lambda: is_settled(page), page)
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Format").select_option("dzi")
    page.get_by_label("Pixels", exact=True).select_option("1024")
    page.locator("#save-submit").click()
    newest = page.locator("#job-list li").first
    newest.get_by_role("button", name="Open").click()
    expect(page.locator("#stored")).to_be_visible()
    eventually(lambda: is_settled(page), page)

    view = shown(page)
    response = page.request.get(
        f"{address}/v1/images/noise/5.png",
        params={"width": view.width, "height": view.height, "psi": 0.8, "region": ",".join(map(str, view.region))},
    )
    with Image.open(io.BytesIO(response.body())) as image:
        expected = np.asarray(image.convert("RGB"), dtype=int)
    assert expected.std() > 100
    x = (view.width - min(view.width, view.height)) // 2 + 20  # well within the picture
    tolerance = 15  # what JPEG and scaling down change at hard edges; upside down it would be 33
    inside = (slice(30, -30), slice(x, -x))
    eventually(lambda: bool(np.abs((canvas_pixels(page) - expected)[inside]).mean() < tolerance), page)
    with page.expect_download() as started:
        newest.get_by_role("link", name="Download").click()
    assert started.value.suggested_filename == "noise-seed5-1024x1024.zip"
    started.value.save_as(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "picture.dzi" in archive.namelist()
    page.close()


def test_a_film_is_played_ordered_and_watched(browser: Browser, address: str) -> None:
    pytest.importorskip("av")
    page = open_page(browser)
    film = "film=seconds%3D0.5%26seed%3D5~seed%3D6%26rotate%3D20%26x%3D0.4%26y%3D0.4%26extent%3D0.5"
    page.goto(f"{address}/?model=noise&seed=5&{film}")
    eventually(lambda: is_settled(page), page)
    page.get_by_role("button", name="Panels").click()
    page.get_by_role("tab", name="Film").click()
    expect(page.locator("#keys canvas:not(.empty)")).to_have_count(2)
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#film")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_label("Video", exact=True).select_option("webm")
    page.get_by_label("Longer side", exact=True).select_option("640")
    page.get_by_role("button", name="Order the video").click()
    page.locator("#job-list").get_by_role("button", name="Watch").click()
    playing = "() => { const video = document.querySelector('video'); return video && video.currentTime > 0; }"
    eventually(lambda: page.evaluate(playing), page)
    assert page.evaluate("document.querySelector('video').videoWidth") == 640
    page.close()
