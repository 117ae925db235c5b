"""How fast IIIF tiles are answered: drawn, and again from the cache."""

import statistics
from dataclasses import dataclass

from service.benchmark.clients import Request, ask_all
from service.benchmark.processes import running_service
from service.catalog import DEMO_NAME

CLIENTS = 8
SIDE, TILE, ACROSS = 65_536, 512, 8
"""Tiles of the full size: a square of so many by so many, as somebody sees who looks around."""


@dataclass(frozen=True)
class IiifReport:
    """What was measured.

    Attributes:
        cold_rate, cached_rate: tiles a second, asked for the first time and again.
        cold_ms, cached_ms: medians of what a client waited.
        peak_mib: most memory of each process.
    """

    tiles: int
    cold_rate: float
    cached_rate: float
    cold_ms: float
    cached_ms: float
    peak_mib: dict[str, float]

    def __str__(self) -> str:
        memory = ", ".join(f"{name} {peak:.0f}" for name, peak in self.peak_mib.items())
        return "\n".join(
            [
                f"{self.tiles} IIIF tiles of {TILE}×{TILE} as JPEG out of {SIDE}×{SIDE}, {CLIENTS} clients",
                f"drawn                          {self.cold_rate:8.2f} tiles/s, {self.cold_ms:.1f} ms median",
                f"again, from the cache          {self.cached_rate:8.2f} tiles/s, {self.cached_ms:.1f} ms median",
                f"peak memory in MiB: {memory}",
            ]
        )


def measure() -> IiifReport:
    """Tiles of the demo network's picture of seed 7. Progress goes to stderr."""
    origin = SIDE // 2
    places = [(origin + TILE * (i % ACROSS), origin + TILE * (i // ACROSS)) for i in range(ACROSS**2)]
    part = f"/iiif/3/{DEMO_NAME}:7:size={SIDE}"
    tiles = [Request(f"{part}/{x},{y},{TILE},{TILE}/{TILE},{TILE}/0/default.jpg") for x, y in places]
    with running_service(workers=1) as service:
        ask_all(service.port, [Request(f"/v1/images/{DEMO_NAME}/1.jpeg")], 1, "warming up")
        cold_rate, cold_ms = _measure(service.port, tiles, "drawn")
        cached_rate, cached_ms = _measure(service.port, tiles, "again")
        return IiifReport(len(tiles), cold_rate, cached_rate, cold_ms, cached_ms, service.peak_mib())


def _measure(port: int, requests: list[Request], what: str) -> tuple[float, float]:
    """Tiles a second and the median wait in milliseconds."""
    seconds, answers = ask_all(port, requests, CLIENTS, what)
    return len(requests) / seconds, statistics.median(answer.milliseconds for answer in answers)
