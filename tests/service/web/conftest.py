"""A Chromium, and pages that show the stand-in service."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from model.config import GeneratorConfig
from tests.service.waiting import LONG
from tests.service.web.canvas import wait_for_full
from tests.service.web.stand_in import StandIn

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Programs that draw the page, the one that needs the least time first."""

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
SIZE = {"width": 800, "height": 600}
SAVE_DATA = "Object.defineProperty(navigator, 'connection', { value: { saveData: true } })"
FOLDER = Path(__file__).parent


CONFIG = GeneratorConfig(resolution=16, channel_base=256, channel_max=32, z_dim=16, w_dim=16, mapping_layers=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.xdist_group("browser"))  # one browser for all tests


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Not of the session: while it runs, no other event loop can run in the main thread."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    expect.set_options(timeout=1000 * LONG)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def service() -> Iterator[StandIn]:
    with StandIn() as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield service
        service.open.set()
        for job in service.jobs:
            job["state"] = "cancelled"
        service.tell.set()
        service.shutdown()
        thread.join()


@pytest.fixture
def new_page(browser: Browser, service: StandIn) -> Iterator[Callable[..., Page]]:
    """Opens pages. At the end, none may have violated its content security policy, thrown, or used another server."""
    faults: list[str] = []
    contexts = []

    def open_page(*, prefetch: bool = False, **options: Any) -> Page:
        options = {"viewport": SIZE, "reduced_motion": "reduce", **options}  # a key moves the view in one step
        context = browser.new_context(**options)
        contexts.append(context)
        if not prefetch:  # requests that nobody waits for
            context.add_init_script(SAVE_DATA)
        page = context.new_page()
        page.set_default_timeout(1000 * LONG)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Security" in message.text else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((service.url, "blob:")) else faults.append(request.url),
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(new_page: Callable[..., Page], service: StandIn) -> Page:
    """A page that shows the whole image of seed 0."""
    page = new_page()
    page.goto(service.url)
    wait_for_full(page, service)
    return page


@pytest.fixture(scope="package")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the real service, whose model ``noise`` has random weights."""
    import torch  # not at the top: the fast tests need no torch

    from model.checkpoint import save_checkpoint
    from model.generator import Generator

    models = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_checkpoint(models / "noise.safetensors", Generator(CONFIG))
    arguments = ["serve", "--port", "0", "--device", "cpu", "--models", str(models), "--request-timeout", "600"]
    with subprocess.Popen([sys.executable, "-m", "service", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            ready = process.stdout.readline()
            assert "ready on http" in ready
            yield ready.split()[-1]
        finally:
            process.terminate()
