"""The real OpenSeadragon, on a page of another site, opens seeds and finished jobs and draws every tile."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Response

from model.config import GeneratorConfig
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.jobs.ordering import finished
from tests.service.gateway.stand_in import run_gateway, settings
from tests.service.waiting import LONG
from tests.service.web.canvas import eventually
from tests.service.web.npm import npm_file

pytestmark = pytest.mark.slow

VERSION = "6.1.1"

PAGE = """<!doctype html><title>viewer</title><div id="viewer" style="width: 300px; height: 200px"></div>
<script src="openseadragon.min.js"></script>
<script>
  const failed = [], loaded = [];
  const query = new URLSearchParams(location.search), key = query.get("key");
  const viewer = OpenSeadragon({
    id: "viewer", tileSources: query.get("source"), showNavigationControl: false,
    crossOriginPolicy: "Anonymous", immediateRender: true, drawer: "canvas",
    loadTilesWithAjax: key !== "", ajaxHeaders: key === "" ? {} : { Authorization: `Bearer ${key}` },
  });
  viewer.addHandler("open-failed", (event) => failed.push(event.message));
  viewer.addHandler("tile-load-failed", (event) => failed.push(event.tile.getUrl()));
  viewer.addHandler("tile-loaded", (event) => loaded.push(event.tile.getUrl()));
  const isDrawn = () => viewer.isOpen() && viewer.world.getItemAt(0).getFullyLoaded();
</script>"""


@pytest.fixture(scope="module")
def site(pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of a site with the viewer's page."""
    script = npm_file(pytestconfig, "openseadragon", VERSION, "build/openseadragon/openseadragon.min.js")
    folder = script.parent
    (folder / "index.html").write_text(PAGE)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def viewer(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 320, "height": 240})
    page.set_default_timeout(1000 * LONG)
    yield page
    page.close()


def open_source(viewer: Page, site: str, source: str, key: str = "") -> set[str]:
    """Waits until everything in view is drawn; the paths of the tiles."""
    refused: list[tuple[str, int]] = []

    def watch(response: Response) -> None:
        if response.status >= 400 and not response.url.endswith("favicon.ico"):
            refused.append((response.url, response.status))

    viewer.on("response", watch)
    viewer.goto(f"{site}/index.html?source={source}&key={key}")
    eventually(lambda: bool(viewer.evaluate("failed.length > 0 || isDrawn()")), viewer)
    viewer.remove_listener("response", watch)
    assert viewer.evaluate("failed") == []
    assert refused == []
    return loaded(viewer)


def loaded(viewer: Page) -> set[str]:
    """The paths of the tiles that have come."""
    return {url.rpartition("://")[2].partition("/")[2] for url in viewer.evaluate("loaded")}


def test_a_seed_opens_as_an_image_of_gigapixels(viewer: Page, site: str, address: str, tmp_path: Path) -> None:
    tiles = open_source(viewer, site, f"{address}/iiif/3/noise:4:psi=0.8/info.json")
    assert tiles
    assert all(tile.startswith("iiif/3/noise:4:psi=0.8/") for tile in tiles)
    viewer.evaluate("viewer.viewport.zoomTo(60, new OpenSeadragon.Point(0.3, 0.4), true)")
    eventually(lambda: len(viewer.evaluate("loaded")) > len(tiles) and bool(viewer.evaluate("isDrawn()")), viewer)
    assert viewer.evaluate("failed") == []
    viewer.screenshot(path=tmp_path / "seed.png")
    assert is_something(tmp_path / "seed.png")


def test_a_finished_job_opens_with_every_tile(viewer: Page, site: str, address: str, tmp_path: Path) -> None:
    order = {"model": "noise", "seed": 4, "width": 500, "height": 300, "tile": 128, "format": "jpeg"}
    with httpx.Client(base_url=address, trust_env=False) as http:
        job = http.post("/v1/jobs", json=order).json()
        end = time.monotonic() + LONG
        while job["state"] in ("queued", "running") and time.monotonic() < end:
            time.sleep(0.05)
            job = http.get(job["links"]["self"]).json()
    assert job["state"] == "succeeded"
    open_source(viewer, site, job["links"]["output"])
    viewer.evaluate("viewer.viewport.zoomTo(viewer.viewport.imageToViewportZoom(1), null, true)")
    base = {f"{column}_{row}.jpg" for column in range(4) for row in range(3)}
    eventually(
        lambda: {tile.rpartition("/")[2] for tile in loaded(viewer) if "/picture_files/9/" in tile} == base, viewer
    )
    assert viewer.evaluate("failed") == []
    eventually(lambda: bool(viewer.evaluate("isDrawn()")), viewer)
    viewer.screenshot(path=tmp_path / "job.png")
    assert is_something(tmp_path / "job.png")
    stored = open_source(viewer, site, job["links"]["iiif"])
    assert all(f"job:{job['id']}" in tile for tile in stored)


def test_a_finished_job_opens_with_a_key(viewer: Page, site: str, tmp_path: Path) -> None:
    with run_gateway(tmp_path, settings("first-key")) as gateway:
        gateway.checkpoints["pattern"] = save_hollow_checkpoint(tmp_path, "pattern", GeneratorConfig(32))
        gateway.http.headers["X-API-Key"] = "first-key"
        links = finished(gateway)["links"]
        for source in (links["output"], links["iiif"]):
            assert open_source(viewer, site, source, "first-key")


def is_something(screenshot: Path) -> bool:
    """Whether there is more than an empty page."""
    with Image.open(screenshot) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=float)
    return bool(pixels[25:175, 25:275].std() > 10)
