"""A stand-in for the service, whose pictures are functions of position.

It draws red as x, green as y and blue as seed and class, so a pixel of the canvas tells which point of the plane it
shows; and it keeps what it was asked, so that the requests can be checked too.
"""

import hashlib
import io
import itertools
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.spec import MAX_SIDES
from model.viewport import MAX_SIDE, Viewport
from service.gateway.job_schemas import JobRequest
from service.gateway.routes.pages import PAGE_POLICY
from service.gateway.schemas import ImageAddress, ImageRequest

WEB = Path(__file__).parents[3] / "service" / "web"
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MODEL = {"resolution": 128, "max_scale": 1, "classes": 0, "styles": 11, "state": "loaded"}
MODELS = [
    {"name": "landscapes", "digest": "a" * 64, **_MODEL},
    {"name": "animals", "digest": "b" * 64, **_MODEL, "max_scale": 4, "classes": 10},
]


@dataclass(frozen=True)
class Asked:
    """One request for a picture. Size and region are those of the crop."""

    model: str
    seed: int
    format: str
    width: int
    height: int
    psi: float
    region: tuple[float, float, float, float]
    class_index: int | None
    latent: str | None = None
    transform: tuple[dict[str, Any], ...] = ()
    outside: str = "extend"
    wrap: str | None = None

    @property
    def extents(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.region
        return x1 - x0, y1 - y0


def blue_of(seed: int, class_index: int | None, psi: float) -> int:
    """Of a whole picture: another for each seed, class and truncation, up to chance."""
    return (37 * seed + 61 * (0 if class_index is None else class_index + 1) + round(100 * (psi - 0.7))) % 256


class StandIn(ThreadingHTTPServer):
    """A service whose answers the tests prescribe."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Asked] = []
        self.seen = 0  # how many of them a test has waited for
        self.models: list[dict[str, Any]] = [*MODELS]
        self.ready = True
        self.key: str | None = None
        self.max_pixels = 4096 * 4096
        self.max_job_pixels = 2**32
        self.request_timeout = 60.0
        self.told_max_pixels: int | None = None  # by /v1/limits, where that is another
        self.render_milliseconds = 0.0  # as Server-Timing tells it
        self.queue_milliseconds = 0.5
        self.cache: str | None = None  # as Server-Timing tells it
        self.problems: list[tuple[int, dict[str, str], dict[str, str]]] = []  # status, headers, problem: answered first
        self.open = threading.Event()  # pictures wait for it
        self.open.set()
        self.jobs: list[dict[str, Any]] = []
        self.ids: list[str] = []  # of those, in their order
        self.latents: list[dict[str, Any]] = []  # that were stored, as JSON
        self.uploads: list[bytes] = []  # files of latents and pictures
        self.projection: list[dict[str, Any]] = []  # its states, one for each answer; the last stays
        self.description: dict[str, Any] | None = None  # of a file
        self.drawn: list[dict[str, Any]] = []  # bodies of images without an address
        self.directions: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.order_keys: list[str] = []  # Idempotency-Key of each order, the refused ones among them
        self.stored: list[tuple[int, int, int]] = []  # tiles of whichever job is watched
        self.tiles: list[str] = []  # that were fetched
        self.parts: list[tuple[int, ...]] = []  # of stored pictures that were fetched: x, y, w, h, width, height
        self.streams: list[tuple[str, str | None]] = []  # the job and Last-Event-ID of each stream of events
        self.cuts = 0  # how many of the next streams break after their first event
        self.tell = threading.Event()  # the next event waits for it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def job(self, path: str) -> dict[str, Any] | None:
        return next((job for job in self.jobs if job["id"] in path), None)

    def forget(self) -> None:
        self.asked.clear()
        self.seen = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that aborts a request closes its connection: nothing to tell."""


class Handler(BaseHTTPRequestHandler):
    @property
    def stand_in(self) -> StandIn:
        return cast(StandIn, self.server)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        names = [name for name, _ in parse_qsl(urlsplit(self.path).query)]
        if len(set(names)) < len(names):
            self.answer_problem(422, {}, {"title": "Unprocessable Content", "detail": "a name appears twice"})
        elif path == "/" or path.startswith("/web/"):
            self.answer_file("index.html" if path == "/" else path.removeprefix("/web/"))
        elif path == "/readyz":
            self.answer(200 if self.stand_in.ready else 503, b"{}", "application/json")
        elif self.stand_in.key and "Authorization" not in self.headers:
            self.answer_problem(401, {}, {"title": "Unauthorized", "detail": "a key is needed"})
        elif self.stand_in.key and self.headers["Authorization"] != f"Bearer {self.stand_in.key}":
            self.answer_problem(403, {}, {"title": "Forbidden", "detail": "this key is not known"})
        elif path == "/version":
            self.answer(200, b'{"version": "1.2.3"}', "application/json")
        elif path == "/v1/limits":
            self.answer(200, json.dumps(self.limits()).encode(), "application/json")
        elif path == "/v1/models":
            self.answer(200, json.dumps({"models": self.stand_in.models}).encode(), "application/json")
        elif path.startswith("/v1/projections/"):
            self.answer(200, json.dumps(self.projection()).encode(), "application/json")
        elif path.endswith("/directions"):
            self.answer(200, json.dumps({"directions": self.stand_in.directions}).encode(), "application/json")
        elif path.startswith("/v1/images/"):
            self.answer_image()
        elif path == "/v1/jobs":
            self.answer(200, json.dumps({"jobs": self.stand_in.jobs}).encode(), "application/json")
        elif job := self.stand_in.job(path):
            self.answer_of_job(job, path)
        else:
            self.answer_problem(404, {}, {"title": "Not found"})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] != "application/json":
            self.answer_upload(content)
            return
        body = json.loads(content)
        if self.stand_in.key and self.headers["Authorization"] != f"Bearer {self.stand_in.key}":
            self.answer_problem(401, {}, {"title": "Unauthorized", "detail": "a key is needed"})
            return
        if self.path.startswith("/v1/latents?"):
            self.answer_latent(body)
            return
        if self.path == "/v1/images":
            self.answer_drawn(body)
            return
        self.stand_in.order_keys.append(self.headers["Idempotency-Key"])
        if self.stand_in.problems:
            self.answer_problem(*self.stand_in.problems.pop(0))
        else:
            JobRequest.model_validate(body)
            self.stand_in.orders.append(body)
            self.stand_in.jobs.insert(0, new_job(len(self.stand_in.orders), body))
            self.answer(202, json.dumps(self.stand_in.jobs[0]).encode(), "application/json")

    def do_DELETE(self) -> None:
        if self.path.startswith("/v1/projections/"):
            self.stand_in.projection = [{**self.projection(), "state": "cancelled"}]
            self.answer(200, json.dumps(self.projection()).encode(), "application/json")
            return
        job = self.stand_in.job(self.path)
        if job is None:
            self.answer_problem(404, {}, {"title": "Not found"})
            return
        if job["state"] in ("queued", "running"):
            job["state"] = "cancelled"
            self.stand_in.tell.set()
        else:
            self.stand_in.jobs.remove(job)
        self.answer(200, json.dumps(job).encode(), "application/json")

    def answer_upload(self, content: bytes) -> None:
        """What a file says of itself, the id of a latent, or the first state of the projection of a picture."""
        if self.path == "/v1/inspect":
            if self.stand_in.description is None:
                self.answer_problem(422, {}, {"title": "Unprocessable Content", "detail": "file: has no description"})
            else:
                self.answer(200, json.dumps(self.stand_in.description).encode(), "application/json")
            return
        self.stand_in.uploads.append(content)
        if self.stand_in.problems:
            self.answer_problem(*self.stand_in.problems.pop(0))
        elif self.path.startswith("/v1/projections?"):
            self.answer(202, json.dumps(self.projection()).encode(), "application/json")
        else:
            self.answer(201, json.dumps({"id": f"lat_{'f' * 32}"}).encode(), "application/json")

    def projection(self) -> dict[str, Any]:
        states = self.stand_in.projection
        return states.pop(0) if len(states) > 1 else states[0]

    def answer_drawn(self, body: dict[str, Any]) -> None:
        """A picture of one colour, whose blue is the mean of the seeds that are mixed."""
        request = ImageRequest.model_validate(body)
        self.stand_in.drawn.append(body)
        mix = body["latent"].get("mix", [{"latent": body["latent"], "weight": 1}])
        psi = request.truncation_psi
        blue = sum(part["weight"] * blue_of(part["latent"].get("seed", 0), None, psi) for part in mix)
        assert request.width
        assert request.height
        pixels = np.full((request.height, request.width, 3), (0, 0, round(blue) % 256), dtype=np.uint8)
        self.answer(200, encode(pixels, request.format), f"image/{request.format}")

    def answer_latent(self, body: dict[str, Any]) -> None:
        self.stand_in.latents.append(body)
        digest = hashlib.md5(json.dumps(body, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        self.stand_in.ids.append(f"lat_{digest}")
        self.answer(201, json.dumps({"id": self.stand_in.ids[-1]}).encode(), "application/json")

    def answer_of_job(self, job: dict[str, Any], path: str) -> None:
        if path.startswith("/iiif/"):
            self.answer_part(job, path)
        elif path.endswith("/events"):
            self.answer_events(job)
        elif path.endswith(("/output", "/output.zip")):
            self.answer(200, b"the file", "image/tiff")
        elif "/output/picture_files/" in path:
            self.stand_in.tiles.append(path.partition("/output/")[2])
            self.answer(200, red_tile(), "image/jpeg")
        else:
            self.answer(200, json.dumps(job).encode(), "application/json")

    def answer_part(self, job: dict[str, Any], path: str) -> None:
        """Red as x and green as y in the stored picture, from 0 to 255 across it."""
        match = re.search(r"/(\d+),(\d+),(\d+),(\d+)/(\d+),(\d+)/0/default\.(jpg|png)$", path)
        assert match, path
        x, y, w, h, width, height = part = tuple(int(value) for value in match.groups()[:6])
        assert 0 <= x < x + w <= job["width"]
        assert 0 <= y < y + h <= job["height"]
        self.stand_in.parts.append(part)
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[..., 0] = 255 * (x + w * (np.arange(width) + 0.5) / width) / job["width"]
        pixels[..., 1] = (255 * (y + h * (np.arange(height) + 0.5) / height) / job["height"])[:, None]
        self.answer(200, encode(pixels, "png"), "image/png")

    def answer_events(self, job: dict[str, Any]) -> None:
        """What the test has prescribed, when it says so, until the job has ended."""
        cut, self.stand_in.cuts = self.stand_in.cuts > 0, max(self.stand_in.cuts - 1, 0)
        self.stand_in.streams.append((job["id"], self.headers["Last-Event-ID"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in itertools.count(1):
            data = {name: job[name] for name in ("state", "tiles_done", "tiles_total", "progress", "eta_seconds")}
            data["tiles"] = self.stand_in.stored
            self.wfile.write(f"event: progress\ndata: {json.dumps(data)}\nid: {number}-0\n\n".encode())
            self.wfile.flush()
            if cut or job["state"] not in ("queued", "running"):
                return
            self.stand_in.tell.wait()
            self.stand_in.tell.clear()

    def limits(self) -> dict[str, Any]:
        return {
            "max_image_pixels": self.stand_in.told_max_pixels or self.stand_in.max_pixels,
            "max_image_positions": 32_768,
            "max_job_pixels": self.stand_in.max_job_pixels,
            "max_side": MAX_SIDE,
            "max_sides": MAX_SIDES,
            "request_timeout": self.stand_in.request_timeout,
        }

    def answer_file(self, name: str) -> None:
        self.answer(200, (WEB / name).read_bytes(), CONTENT_TYPES[Path(name).suffix])

    def answer_image(self) -> None:
        asked = parse(self.path)
        self.stand_in.asked.append(asked)
        self.stand_in.open.wait()
        if self.stand_in.problems:
            self.answer_problem(*self.stand_in.problems.pop(0))
            return
        if asked.width * asked.height > self.stand_in.max_pixels:
            self.answer_problem(413, {}, {"title": "Too large", "detail": "too many pixels"})
            return
        timing = f"queue;dur={self.stand_in.queue_milliseconds}, render;dur={self.stand_in.render_milliseconds}"
        if self.stand_in.cache is not None:
            timing += f', cache;desc="{self.stand_in.cache}"'
        self.answer(200, draw(asked), f"image/{asked.format}", {"Server-Timing": timing})

    def answer_problem(self, status: int, headers: dict[str, str], problem: dict[str, str]) -> None:
        self.answer(status, json.dumps(problem).encode(), "application/problem+json", headers)

    def answer(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": content_type, "Content-Security-Policy": PAGE_POLICY, **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def new_job(number: int, order: dict[str, Any]) -> dict[str, Any]:
    """A job as the service describes it, as far as the page looks."""
    fixed = {"state": "queued", "error": None, "tiles_done": 0, "tiles_total": 40, "progress": 0.0, "eta_seconds": None}
    names = ("output", "format", "tile", "seed", "truncation_psi", "width", "height", "region")
    asked = {name: order.get(name) for name in names}
    if "keyframes" in order:
        fixed |= {"frames": round(order["keyframes"][-1]["time"] * order["fps"]) + 1, "fps": order["fps"]}
    digest = "b" * 64 if order.get("class_index") is not None else "a" * 64
    return {"id": f"{number:032x}", "model": digest, "class_index": order.get("class_index"), **fixed, **asked}


def red_tile() -> bytes:
    return encode(np.full((512, 512, 3), (254, 0, 0), dtype=np.uint8), "jpeg")


def encode(pixels: NDArray[np.uint8], image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, quality=95, compress_level=1)
    return buffer.getvalue()


def parse(path: str) -> Asked:
    """Reads an address as the gateway does, and as strictly."""
    parts = urlsplit(path)
    match = re.fullmatch(r"/v1/images/([^/]+)/(\d+|lat_[0-9a-f]{32})\.(png|jpeg|webp)", parts.path)
    assert match, path
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    address = {"model": unquote(match[1]), "seed": match[2], "format": match[3]}
    request = ImageAddress.model_validate(query | address).to_request()
    assert request.width is not None
    assert request.height is not None
    viewport = Viewport.resolve(request.width, request.height, request.region, request.crop)
    _, _, width, height = viewport.crop
    return Asked(
        model=str(request.model),
        seed=int(match[2][4:8], 16) if match[2].startswith("lat_") else int(match[2]),
        latent=match[2] if match[2].startswith("lat_") else None,
        format=match[3],
        width=width,
        height=height,
        psi=request.truncation_psi,
        region=viewport.crop_region,
        class_index=None if request.class_index is None else int(request.class_index),
        transform=tuple(each.to_json() for each in request.transform),
        outside=request.outside,
        wrap=request.wrap,
    )


def colour(x: float, y: float, blue: int) -> tuple[float, float, float]:
    """What the stand-in draws at a point of the plane."""
    return 255 * (x + 1) / 3, 255 * (y + 1) / 3, blue


def draw(asked: Asked) -> bytes:
    x0, y0, x1, y1 = asked.region
    x = x0 + (x1 - x0) * (np.arange(asked.width) + 0.5) / asked.width
    y = y0 + (y1 - y0) * (np.arange(asked.height) + 0.5) / asked.height
    pixels = np.empty((asked.height, asked.width, 3), dtype=np.uint8)
    pixels[..., 0] = np.rint(255 * (x + 1) / 3)
    pixels[..., 1] = np.rint(255 * (y + 1) / 3)[:, None]
    pixels[..., 2] = blue_of(asked.seed, asked.class_index, asked.psi)
    return encode(pixels, asked.format)
