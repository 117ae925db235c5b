"""How fast IIIF tiles are answered: drawn, and again from the cache."""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection

from tqdm import tqdm

from model.errors import InputError
from service.benchmark.processes import running_service
from service.catalog import DEMO_NAME

CLIENTS = 8
SIDE, TILE, ACROSS = 65_536, 512, 8
"""Tiles of the full size: a square of so many by so many, as somebody sees who looks around."""

ANSWER_SECONDS = 120.0


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
    paths = [f"/iiif/3/{DEMO_NAME}:7:size={SIDE}/{x},{y},{TILE},{TILE}/{TILE},{TILE}/0/default.jpg" for x, y in places]
    with running_service(workers=1) as service:
        _ask_all(service.port, [f"/v1/images/{DEMO_NAME}/1.jpeg"], "warming up")
        cold_rate, cold_ms = _ask_all(service.port, paths, "drawn")
        cached_rate, cached_ms = _ask_all(service.port, paths, "again")
        return IiifReport(len(paths), cold_rate, cached_rate, cold_ms, cached_ms, service.peak_mib())


def _ask_all(port: int, paths: Sequence[str], what: str) -> tuple[float, float]:
    """Tiles a second and the median wait in milliseconds."""

    def ask_some(mine: Sequence[str]) -> list[float]:
        connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        waits = []
        for path in mine:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise InputError("benchmark", f"the service answered {answer.status}: {content[:200]!r}")
            waits.append(1000 * (time.perf_counter() - began))
            bar.update()
        connection.close()
        return waits

    with (
        tqdm(total=len(paths), desc=what, unit="tile", leave=False, delay=2) as bar,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        began = time.perf_counter()
        parts = list(pool.map(ask_some, (paths[i::CLIENTS] for i in range(CLIENTS))))
        seconds = time.perf_counter() - began
    return len(paths) / seconds, statistics.median(wait for part in parts for wait in part)
