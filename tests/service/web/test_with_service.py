"""The explorer page with the real service behind it."""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.service.web.canvas import eventually, link


def canvas_pixels(page: Page) -> NDArray[np.int64]:
    """[H, W, 3], 0 … 255."""
    png = base64.b64decode(page.evaluate("canvas.toDataURL('image/png')").partition(",")[2])
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def test_shows_and_saves_what_the_service_draws(browser: Browser, address: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 300}, reduced_motion="reduce")
    page.goto(f"{address}/#model=noise&seed=4&psi=0.8")
    page.locator("canvas[aria-busy=false]").wait_for()
    page.keyboard.press("+")
    eventually(lambda: link(page).get("extent") == "0.6666667", page)
    page.locator("canvas[aria-busy=false]").wait_for()

    response = page.request.get(
        f"{address}/v1/images/noise/4.png",
        params={"width": 400, "height": 300, "psi": 0.8, "region": f"{1 / 18},{1 / 6},{17 / 18},{5 / 6}"},
    )
    with Image.open(io.BytesIO(response.body())) as image:
        expected = np.asarray(image.convert("RGB"), dtype=int)
    assert expected.std() > 10  # something is there to be compared
    eventually(lambda: bool(np.abs(canvas_pixels(page) - expected).mean() < 4), page)  # what JPEG may change

    with page.expect_download() as started:
        page.locator("#download").evaluate("button => button.click()")
    started.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), expected)
    page.close()


def test_the_documentation_is_shown_within_its_policy(browser: Browser, address: str) -> None:
    faults: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{address}/docs")
    page.get_by_text("/v1/images/{model}/{seed}.{format}").first.click()
    page.get_by_text("truncation ψ", exact=False).first.wait_for()
    assert faults == []
    page.close()


def test_a_large_picture_is_ordered_made_and_looked_at(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 300}, reduced_motion="reduce")
    page.goto(f"{address}/#model=noise&seed=5&psi=0.8")
    page.locator("#canvas[aria-busy=false]").wait_for()
    page.locator("#order").evaluate("button => button.click()")
    page.fill("#order-side", "1100")
    page.click("#order-submit")
    newest = page.locator("#job-list li").first
    newest.get_by_role("button", name="Open").evaluate("button => button.click()")

    # The canvas is 300 pixels high and shows the unit square, whose width the picture fills.
    response = page.request.get(
        f"{address}/v1/images/noise/5.png",
        params={"width": 300, "height": 225, "psi": 0.8, "region": f"{-1 / 6},0,{7 / 6},1"},
    )
    with Image.open(io.BytesIO(response.body())) as image:
        expected = np.asarray(image.convert("RGB"), dtype=int)
    assert expected.std() > 100
    tolerance = 15  # what JPEG and scaling down change at hard edges; upside down it would be 33
    eventually(lambda: bool(np.abs(canvas_pixels(page)[37:262, 50:350] - expected).mean() < tolerance), page)
    job = page.request.get(f"{address}/v1/jobs").json()["jobs"][0]
    assert job["state"] == "succeeded"
    assert f"iiif/3/job:{job['id']}/info.json" in page.locator("#iiif").input_value()
    page.close()
