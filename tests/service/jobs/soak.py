"""Random kills under load: ``make soak``. No job may be lost, no byte wrong.

A real gateway, real workers with the demo network and a real Redis with its append-only file run as processes. Every
few seconds one of them is killed with SIGKILL, and started again a little later. Clients order jobs and ask for
pictures all the while. At the end every job must have succeeded, and every file is compared with what this process
draws.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from service.imaging.export_spec import ExportSpec
from service.imaging.tile_encoding import encode_tile
from service.jobs.job import Job
from service.models.catalog import DEMO, DEMO_NAME
from tests.service.jobs.cluster import Cluster, persist
from tests.service.jobs.stand_in import image_of
from tests.service.waiting import eventually

PARTS = ("redis", "gateway", "worker-1", "worker-2")
JOBS_AT_ONCE, CLIENTS = 3, 4
MAX_SIDE = 1500
"""Largest width and height of a job."""

KILL_SECONDS = (3.0, 8.0)
"""Between two kills. A worker that died is noticed after four seconds."""


@dataclass
class Report:
    """What happened.

    Attributes:
        recoveries: seconds from each kill until the service was ready again.
        wrong: what was not as it should be.
    """

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    recoveries: list[float] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    tiles: int = 0
    images: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in self.kills.items())
        slowest = f"{max(self.recoveries):.1f} s at most" if self.recoveries else "none needed"
        return (
            f"kills: {kills}; ready again after {slowest}\n"
            f"{len(self.jobs)} jobs of {self.tiles} tiles, {self.images} pictures, {len(self.wrong)} wrong"
            + "".join(f"\n  {wrong}" for wrong in self.wrong)
        )


async def soak(folder: Path, seconds: float, seed: int = 0) -> Report:
    """Runs the service in ``folder`` under load and kills for ``seconds``, lets it finish and looks at everything."""
    chance, report = random.Random(seed), Report()
    cluster = Cluster(folder, [sys.executable, "-m", "service", "worker", "--device", "cpu"])
    images: dict[str, bytes] = {}
    async with (
        cluster.running(*PARTS),
        httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=30) as http,
        asyncio.TaskGroup() as tasks,
    ):
        end = time.monotonic() + seconds
        tasks.create_task(_kill(cluster, end, chance, report))
        tasks.create_task(_tell(end, report))
        for number in range(JOBS_AT_ONCE):
            tasks.create_task(_order_jobs(http, end, random.Random(seed + number), number, report))
        for number in range(CLIENTS):
            tasks.create_task(_ask_images(http, end, random.Random(-seed - number), images, report))
    await asyncio.to_thread(_compare, cluster.outputs, images, report)
    return report


async def _kill(cluster: Cluster, end: float, chance: random.Random, report: Report) -> None:
    while (pause := chance.uniform(*KILL_SECONDS)) < end - time.monotonic():
        await asyncio.sleep(pause)
        victims = chance.sample(PARTS, chance.choice((1, 1, 1, 2)))
        for victim in victims:
            cluster.kill(victim)
            report.kills[victim] += 1
        killed = time.monotonic()
        await asyncio.sleep(chance.uniform(0, 2))
        for victim in victims:
            await cluster.start(victim)
        await eventually(cluster.is_ready)
        report.recoveries.append(time.monotonic() - killed)


async def _tell(end: float, report: Report) -> None:
    while (left := end - time.monotonic()) > 0:
        print(f"{left:4.0f} s left, {sum(report.kills.values())} kills, {len(report.jobs)} jobs", file=sys.stderr)
        await asyncio.sleep(min(10, left))


async def _order_jobs(http: httpx.AsyncClient, end: float, chance: random.Random, number: int, report: Report) -> None:
    while time.monotonic() < end:
        output = chance.choice(("dzi", "dzi", "tiff", "png"))
        body = {
            "model": DEMO_NAME,
            "seed": chance.randrange(1000),
            "truncation_psi": 0.7,
            "width": chance.randrange(100, MAX_SIDE),
            "height": chance.randrange(100, MAX_SIDE),
            "tile": chance.choice((64, 128, 256)),
            "output": output,
            "format": "png" if output == "png" else chance.choice(("png", "jpeg")),
        }
        key = {"Idempotency-Key": f"{number}-{len(report.jobs)}-{chance.random()}"}
        job = (await persist(http, "POST", "/v1/jobs", json=body, headers=key)).json()
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.2)
            answer = await persist(http, "GET", f"/v1/jobs/{job['id']}")
            if answer.status_code == 404:  # Redis lost its last second: a keeper finds the job again
                continue
            job = answer.json()
        if job["state"] != "succeeded":
            report.wrong.append(f"job {job['id']} {job['state']}: {job['error']}")
        report.jobs.append(job["id"])
        report.tiles += job["tiles_total"]


async def _ask_images(
    http: httpx.AsyncClient, end: float, chance: random.Random, images: dict[str, bytes], report: Report
) -> None:
    while time.monotonic() < end:
        path = f"/v1/images/{DEMO_NAME}/{chance.randrange(40)}.png?width=256&height=256"
        answer = await persist(http, "GET", path)
        report.images += 1
        if answer.status_code != 200 or images.setdefault(path, answer.content) != answer.content:
            report.wrong.append(f"{path}: {answer.status_code}")
        await asyncio.sleep(0.2)


def _compare(outputs: Path, images: dict[str, bytes], report: Report) -> None:
    """Draws everything once more."""
    renderer = Renderer(Checkpoint.open(DEMO), "cpu")
    for number, job in enumerate(report.jobs):
        print(f"comparing job {number + 1} of {len(report.jobs)}", file=sys.stderr, end="\r")
        folder = outputs / "jobs" / job
        try:
            export = image_of(Job.from_json((folder / "job.json").read_bytes()))
            if not _is_right(export, folder, renderer):
                report.wrong.append(f"job {job}: other bytes")
        except OSError as error:
            report.wrong.append(f"job {job}: {error}")
    for path, content in images.items():
        with Image.open(BytesIO(content)) as image:
            image.verify()
        if imagecodecs.png_decode(content).shape != (256, 256, 3):
            report.wrong.append(path)


def _is_right(export: ExportSpec, folder: Path, renderer: Renderer) -> bool:
    if export.kind == "png":
        return bool(
            np.array_equal(imagecodecs.png_decode((folder / export.name).read_bytes()), renderer.render(export.spec))
        )
    indices = range(export.pyramid.tiles)
    tiles = {index: encode_tile(export, index, renderer.render(export.tile_spec(index))) for index in indices}
    if export.kind == "dzi":
        return all((folder / export.tile_name(index)).read_bytes() == tile for index, tile in tiles.items())
    content = (folder / export.name).read_bytes()
    with tifffile.TiffFile(folder / export.name) as file:
        for level, page in zip(reversed(range(len(export.pyramid.levels))), file.series[0].levels, strict=True):
            keyframe: Any = page.keyframe
            for index, start, length in zip(
                export.pyramid.scan(level), keyframe.dataoffsets, keyframe.databytecounts, strict=True
            ):
                if content[start : start + length] != tiles[index]:
                    return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load and kills (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and asked when (default: 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="creps-soak-") as folder:
        report = asyncio.run(soak(Path(folder), 60 * options.minutes, options.seed))
    print(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
