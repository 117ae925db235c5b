"""The drill of docs/operations.md, "Backup": a service that is lost is made anew from copies of two folders."""

import io
import shutil
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.jobs.cluster import Cluster
from tests.service.jobs.stand_in import files_below, pattern
from tests.service.jobs.test_faults import PARTS, ended, export, recorded_order, status
from tests.service.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


def make_cluster(folder: Path) -> Cluster:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.service.jobs.stand_in"]
    command += [f"unix://{folder}/redis/socket", str(folder / "models"), (folder / "outputs").as_uri()]
    return Cluster(folder, command, {"CREPS_TEST_DELAY": "0.02"})


def client(cluster: Cluster) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=20)


async def test_a_service_is_restored_from_its_models_and_outputs(tmp_path: Path) -> None:
    lost, backup = make_cluster(tmp_path / "lost"), tmp_path / "backup"
    save_hollow_checkpoint(lost.models, "pattern")
    async with lost.running(*PARTS), client(lost) as http:
        finished = await export(http, format="jpeg")
        assert (await ended(http, finished))["state"] == "succeeded"
        begun = await export(http, output="tiff", labels={"project": "drill"})

        async def is_under_way() -> bool:
            return float((await status(http, begun))["progress"]) > 0.2

        await eventually(is_under_way)
        for name in ("models", "outputs"):  # while it runs; files under other names are not complete
            shutil.copytree(lost.folder / name, backup / name, ignore=shutil.ignore_patterns("*#*"))
        expected = files_below(lost.outputs / "jobs" / finished)
    shutil.rmtree(lost.folder)

    restored = make_cluster(tmp_path / "restored")
    for name in ("models", "outputs"):
        shutil.copytree(backup / name, restored.folder / name, dirs_exist_ok=True)
    async with restored.running(*PARTS), client(restored) as http:

        async def knows_all() -> bool:
            return {job["id"] for job in (await http.get("/v1/jobs")).json()["jobs"]} == {finished, begun}

        await eventually(knows_all)
        assert (await status(http, finished))["state"] == "succeeded"
        assert files_below(restored.outputs / "jobs" / finished) == expected
        last = await ended(http, begun)
        assert (last["state"], last["labels"]) == ("succeeded", {"project": "drill"})
        output = await http.get(f"/v1/jobs/{begun}/output/picture.tiff")
        assert output.headers["content-type"] == "image/tiff"
        pixels = tifffile.imread(io.BytesIO(output.content))
        assert np.array_equal(pixels, pattern(recorded_order(restored, begun).spec))
