"""From the wheel to the picture: ``python -m tests.service.web.benchmark``.

A real service draws the demo network for the explorer page in Chromium. Each row is a movement of the view: the time
from the last input event to the first picture of the new view, of about a quarter of the size or better, and to the
full one. The page itself measures both (``performance.measure``).
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests.service.web.conftest import CHROMIUM

WINDOW: ViewportSize = {"width": 1280, "height": 800}
LONG_MILLISECONDS = 120_000


@contextmanager
def running_service() -> Iterator[str]:
    with TemporaryDirectory() as outputs:
        command = [
            sys.executable,
            "-m",
            "service",
            "serve",
            "--port",
            "0",
            "--outputs",
            outputs,
            "--log-level",
            "warning",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                yield process.stdout.readline().split()[-1]
            finally:
                process.terminate()


def measure(page: Page, move: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds to the first and to the full picture of the view that a movement ends in."""
    page.evaluate("performance.clearMeasures()")
    move()
    page.wait_for_timeout(400)  # the page writes nothing while the view moves
    page.locator("#canvas[aria-busy=false]").wait_for()
    script = "(name) => performance.getEntriesByName(name).at(-1)?.duration ?? 0"
    first, full = (page.evaluate(script, f"creps-{picture}") for picture in ("first", "full"))
    return first, full


def drag(page: Page, by: float) -> None:
    x, y = WINDOW["width"] / 3, WINDOW["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=5)
    page.mouse.up()


def wheel(page: Page, delta: float) -> None:
    page.mouse.move(WINDOW["width"] / 3, WINDOW["height"] / 2)
    for _ in range(3):
        page.mouse.wheel(0, delta)


def main(rounds: int) -> None:
    assert CHROMIUM is not None, "needs Chromium"
    results: dict[str, list[tuple[float, float]]] = {}
    with running_service() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=WINDOW, reduced_motion="reduce")
        page.set_default_timeout(LONG_MILLISECONDS)
        page.goto(f"{address}?seed=1")
        page.locator("#canvas[aria-busy=false]").wait_for()
        for number in range(rounds):
            movements: dict[str, Callable[[], None]] = {
                "next seed": lambda: page.click("#next"),
                "wheel in": lambda: wheel(page, -100),
                "drag": lambda: drag(page, 120),
                "drag back": lambda: drag(page, -120),
                "wheel out": lambda: wheel(page, 100),
            }
            for name, move in movements.items():
                result = measure(page, move)
                if number > 0:  # the first round warms up
                    results.setdefault(name, []).append(result)
        size = page.evaluate("[canvas.width, canvas.height]")
        browser.close()
    print(f"{size[0]}×{size[1]} pixels of the demo network, {rounds - 1} rounds; median (longest), in ms")
    print(f"{'':12} {'first picture':>20} {'full picture':>20}")
    for name, pairs in results.items():
        columns = [f"{statistics.median(values):.0f} ({max(values):.0f})" for values in zip(*pairs, strict=True)]
        print(f"{name:12} {columns[0]:>20} {columns[1]:>20}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m tests.service.web.{Path(__file__).stem}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="times each movement is made (default: 6)")
    main(parser.parse_args().rounds)
