"""Throughput of IIIF tiles, rendered and from the cache."""

from service.benchmark.clients import Request, median_and_p99, send_all
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.models.catalog import DEMO_NAME

CLIENTS = 8
SIDE, TILE, ACROSS = 65_536, 512, 8
"""Side of the image, side of a tile, and tiles across the square of full-size tiles that is requested."""


def measure() -> Report:
    """Tiles of one image of the demo network, requested twice."""
    origin = SIDE // 2
    corners = [(origin + TILE * (i % ACROSS), origin + TILE * (i // ACROSS)) for i in range(ACROSS**2)]
    address = f"/iiif/3/{DEMO_NAME}:7:size={SIDE}"
    tiles = [Request(f"{address}/{x},{y},{TILE},{TILE}/{TILE},{TILE}/0/default.jpg") for x, y in corners]
    rows: list[Row] = []
    with running_service(workers=1) as service:
        send_all(service.port, [Request(f"/v1/images/{DEMO_NAME}/1.jpeg")], 1, "warming up")
        for name in ("rendered", "cached"):
            seconds, timings = send_all(service.port, tiles, CLIENTS, name)
            latencies = median_and_p99([timing.latency for timing in timings])
            rows.append({"tiles": name, "tiles/s": len(tiles) / seconds, **latencies})
        title = f"{len(tiles)} IIIF tiles of {TILE}×{TILE} as JPEG from an image of {SIDE}×{SIDE}, {CLIENTS} clients"
        return Report(title, rows, service.peak_mib())
