"""The real OpenSeadragon, on a page of another site, opens seeds and finished jobs and draws every tile."""

import functools
import http.server
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Response

from tests.service.waiting import LONG
from tests.service.web.canvas import eventually

VERSION = "6.1.1"

PAGE = """<!doctype html><title>viewer</title><div id="viewer" style="width: 600px; height: 400px"></div>
<script src="openseadragon.js"></script>
<script>
  const failed = [], loaded = [];
  const viewer = OpenSeadragon({
    id: "viewer", tileSources: new URLSearchParams(location.search).get("source"), showNavigationControl: false,
    crossOriginPolicy: "Anonymous", immediateRender: true, drawer: "canvas",
  });
  viewer.addHandler("open-failed", (event) => failed.push(event.message));
  viewer.addHandler("tile-load-failed", (event) => failed.push(event.tile.getUrl()));
  viewer.addHandler("tile-loaded", (event) => loaded.push(event.tile.getUrl()));
  const isDrawn = () => viewer.isOpen() && viewer.world.getItemAt(0).getFullyLoaded();
</script>"""


@pytest.fixture(scope="module")
def site(pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of a site with the viewer's page."""
    folder = pytestconfig.cache.mkdir(f"openseadragon-{VERSION}")
    script = folder / "openseadragon.js"
    if not script.exists():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("needs npm for OpenSeadragon")
        packed = subprocess.run(
            [npm, "pack", "--silent", f"openseadragon@{VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if packed.returncode:
            pytest.skip(f"npm has no OpenSeadragon: {packed.stderr.strip()[-200:]}")
        with tarfile.open(folder / packed.stdout.split()[-1]) as package:
            content = package.extractfile("package/build/openseadragon/openseadragon.min.js")
            assert content is not None
            script.write_bytes(content.read())
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
    page = browser.new_page(viewport={"width": 640, "height": 480})
    page.set_default_timeout(1000 * LONG)
    yield page
    page.close()


def open_source(viewer: Page, site: str, source: str) -> set[str]:
    """Waits until everything in view is drawn; the paths of the tiles."""
    refused: list[tuple[str, int]] = []

    def watch(response: Response) -> None:
        if response.status >= 400 and not response.url.endswith("favicon.ico"):
            refused.append((response.url, response.status))

    viewer.on("response", watch)
    viewer.goto(f"{site}/index.html?source={source}")
    eventually(lambda: bool(viewer.evaluate("failed.length > 0 || isDrawn()")), viewer)
    viewer.remove_listener("response", watch)
    assert viewer.evaluate("failed") == []
    assert refused == []
    return loaded(viewer)


def loaded(viewer: Page) -> set[str]:
    """The paths of the tiles that have come."""
    return {url.rpartition("://")[2].partition("/")[2] for url in viewer.evaluate("loaded")}


def test_a_seed_opens_as_a_picture_of_gigapixels(viewer: Page, site: str, address: str, tmp_path: Path) -> None:
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
    open_source(viewer, site, f"{job['links']['output']}/picture.dzi")
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


def is_something(screenshot: Path) -> bool:
    """Whether there is more than an empty page."""
    with Image.open(screenshot) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
    return bool(pixels[50:350, 50:550].std() > 10)
