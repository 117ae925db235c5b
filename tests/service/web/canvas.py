"""What the canvas of the explorer page shows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
from playwright.sync_api import Page

from tests.service.waiting import LONG
from tests.service.web.stand_in import StandIn, blue_of, colour

T = TypeVar("T")

SETTLED = "new Promise((done) => setTimeout(done, 500))"
"""As long as the page waits before it writes a changed view into its address, by the page's own clock."""


@dataclass(frozen=True)
class Shown:
    """What the address of the page says."""

    model: str
    seed: int
    psi: float
    class_index: int | None
    region: tuple[float, float, float, float]
    width: int
    height: int

    @property
    def extents(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.region
        return x1 - x0, y1 - y0


def eventually(condition: Callable[[], T | None], page: Page) -> T:
    """Waits for something true, while the page goes on."""
    deadline = time.monotonic() + LONG
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never happened"
        page.wait_for_timeout(20)
    return result


def is_busy(page: Page) -> bool:
    """Whether the page waits for a larger picture than it shows."""
    return page.locator("#canvas").get_attribute("aria-busy") != "false"


def is_settled(page: Page) -> bool:
    """Whether nothing more is to come: pictures, another size of the canvas, another address."""
    if is_busy(page):
        return False
    page.evaluate(SETTLED)
    return not is_busy(page)


def wait_for_full(page: Page, service: StandIn) -> Shown:
    """Waits until the canvas shows what the page's address says, of which something was new since the last call."""

    def at_rest() -> bool:
        count = len(service.asked)
        return count > service.seen and is_settled(page) and len(service.asked) == count

    eventually(at_rest, page)
    found = eventually(lambda: found if shows(page, found := shown(page)) else None, page)
    service.seen = len(service.asked)
    return found


def shown(page: Page, frame: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Shown:
    """What the address says, by the page's own reading of it. ``frame``: region of the whole picture."""
    script = """async (frame) => {
        const { fit, regionOf } = await import("/web/picture/view.js"), { snap } = await import("/web/picture/grid.js");
        const values = new URLSearchParams(location.search), size = { width: canvas.width, height: canvas.height };
        const [x, y, extent] = ["x", "y", "extent"].map((name) => Number(values.get(name)));
        return regionOf(snap(extent ? { x, y, extent } : fit(frame, size), size), size);
    }"""
    values = link(page)
    width, height = canvas_size(page)
    return Shown(
        values.get("model", ""),
        int(values.get("seed", -1)),
        float(values.get("psi", -1)),
        int(values["class"]) if "class" in values else None,
        cast(Any, tuple(page.evaluate(script, frame))),
        width,
        height,
    )


def canvas_size(page: Page) -> tuple[int, int]:
    width, height = page.evaluate("[canvas.width, canvas.height]")
    return width, height


def pixel(page: Page, x: int, y: int) -> list[int]:
    """RGB; black where nothing is drawn."""
    script = "([x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    return cast(list[int], page.evaluate(script, [x, y]))


def shows(page: Page, view: Shown, tolerance: float = 3) -> bool:
    """Whether places all over the canvas have the colours of this view, up to what JPEG may change."""
    width, height = canvas_size(page)
    x0, y0, x1, y1 = view.region
    blue = blue_of(view.seed, view.class_index, view.psi)
    for column, row in ((5, 5), (width // 2, height // 3), (width - 6, height - 6), (7, height - 9)):
        x = x0 + (x1 - x0) * (column + 0.5) / width
        y = y0 + (y1 - y0) * (row + 0.5) / height
        if not np.allclose(pixel(page, column, row), colour(x, y, blue), atol=tolerance, rtol=0):
            return False
    return True


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def wheel(page: Page, x: float, y: float, delta: float) -> None:
    """Turns the wheel. The page has handled the event afterwards, which Playwright does not wait for."""
    page.mouse.move(x, y)
    page.evaluate(
        """() => {
            window.turned = new Promise((done) => addEventListener("wheel", () => setTimeout(done), { once: true }));
        }"""
    )
    page.mouse.wheel(0, delta)
    page.evaluate("() => window.turned")


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).bounding_box()
    assert found is not None, selector
    return cast(dict[str, float], found)
