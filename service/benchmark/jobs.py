"""Throughput of jobs, compared with the renderer and encoder called directly for the same tiles."""

import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from model.checkpoint import Checkpoint, save_random_checkpoint
from model.errors import InputError
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.util.measuring import in_own_process
from model.viewport import Viewport
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.imaging.export_spec import ExportSpec
from service.imaging.local_export import render_tiles
from service.imaging.object_store import open_store

SEED = 7
POLL_SECONDS = 0.2


def measure_preset(preset: str, side: int) -> Report:
    """A job of a network with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{preset}.safetensors"
        in_own_process("random weights", save_random_checkpoint, path, preset)
        return measure(path, side)


def measure(path: Path, side: int) -> Report:
    """Jobs of a checkpoint's square image with different numbers of workers, which share the cores."""
    checkpoint = Checkpoint.open(path)
    image = RenderSpec(checkpoint.digest, Latent(seed=SEED), Viewport.resolve(side, side), Encoding("jpeg"))
    export = ExportSpec(image, "dzi")
    tiles = export.pyramid.tiles
    direct_rate = tiles / in_own_process("directly", measure_direct, path, export)
    rows: list[Row] = [{"": "renderer and encoder directly", "tiles/s": direct_rate, "of direct": 1.0}]
    for count in (1, 2):
        with running_service(count, path.parent) as service:
            with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=120, trust_env=False) as http:
                body = {"model": checkpoint.digest, "seed": SEED, "format": "jpeg"}
                _run_job(http, body | {"width": 256 * count, "height": 256, "tile": 64}, "warming up")
                rate = tiles / _run_job(http, body | {"width": side, "height": side}, f"{count} workers")
            rows.append({"": f"job, workers: {count}", "tiles/s": rate, "of direct": rate / direct_rate})
            peaks = service.peak_mib()
    title = f"export of {side}×{side} as Deep Zoom of JPEG, {tiles} tiles, {checkpoint.name}"
    return Report(title, rows, peaks)


def measure_direct(path: Path, export: ExportSpec) -> float:
    """Seconds to render and encode all tiles into a folder."""
    from kernels.renderer import Renderer

    renderer = Renderer(Checkpoint.open(path), "cpu")
    renderer.render(export.tile_spec(0))
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder).as_uri())
        began = time.perf_counter()
        render_tiles(export, renderer, store, "tiles", lambda _: None)
        return time.perf_counter() - began


def _run_job(http: httpx.Client, body: dict[str, Any], task: str) -> float:
    """Seconds from the request to the end of a job."""
    began = time.perf_counter()
    job = http.post("/v1/jobs", json=body).raise_for_status().json()
    with tqdm(total=job["tiles_total"], desc=task, unit="tile", leave=False, delay=2, disable=None) as bar:
        while job["state"] in ("queued", "running"):
            time.sleep(POLL_SECONDS)
            job = http.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
            bar.update(job["tiles_done"] - bar.n)
    if job["state"] != "succeeded":
        raise InputError("benchmark", f"the job {job['state']}: {job['error']}")
    return time.perf_counter() - began
