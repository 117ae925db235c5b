"""What the canvas of the explorer page shows."""

import time
from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
from playwright.sync_api import Page

from tests.service.waiting import LONG
from tests.service.web.stand_in import Asked, StandIn, colour

T = TypeVar("T")


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


def wait_for_full(page: Page, service: StandIn) -> Asked:
    """Waits for the full picture of a view that is new since the last call; returns the request for it."""
    quiet_since, count = time.monotonic(), service.seen

    def at_rest() -> bool:
        nonlocal quiet_since, count
        if is_busy(page) or len(service.asked) != count:
            quiet_since, count = time.monotonic(), len(service.asked)
        return count > service.seen and time.monotonic() - quiet_since > 0.4

    def shown() -> Asked | None:
        """The last one that the canvas shows: one that was aborted may have come later."""
        for asked in reversed(service.asked[service.seen :]):
            if (asked.width, asked.height) == canvas_size(page) and shows(page, asked):
                return asked
        return None

    eventually(at_rest, page)
    asked = eventually(shown, page)
    service.seen = len(service.asked)
    return asked


def canvas_size(page: Page) -> tuple[int, int]:
    width, height = page.evaluate("[canvas.width, canvas.height]")
    return width, height


def pixel(page: Page, x: int, y: int) -> list[int]:
    script = "([x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    return cast(list[int], page.evaluate(script, [x, y]))


def shows(page: Page, asked: Asked, tolerance: float = 3) -> bool:
    """Whether places all over the canvas have the colours of this picture, up to what JPEG may change."""
    width, height = canvas_size(page)
    x0, y0, x1, y1 = asked.region
    for column, row in ((5, 5), (width // 2, height // 3), (width - 6, height - 6), (7, height - 9)):
        x = x0 + (x1 - x0) * (column + 0.5) / width
        y = y0 + (y1 - y0) * (row + 0.5) / height
        if not np.allclose(pixel(page, column, row), colour(x, y, asked.blue), atol=tolerance, rtol=0):
            return False
    return True


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def wheel(page: Page, x: float, y: float, delta: float) -> None:
    page.mouse.move(x, y)
    page.mouse.wheel(0, delta)
