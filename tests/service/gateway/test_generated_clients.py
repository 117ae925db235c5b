"""Clients that are generated from the OpenAPI description draw an image and follow a job.

docs/http.md has the generators' commands and settings.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from model.config import GeneratorConfig
from service.queue.messages import WorkerInfo
from tests.documents import ROOT
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.jobs.ordering import drawing
from tests.service.gateway.stand_in import run_gateway, settings
from tests.service.waiting import LONG
from tests.service.web.npm import npm_packages

pytestmark = pytest.mark.slow

SETTINGS = re.search(r"```yaml\n(content_type_overrides:.*?)```", (ROOT / "docs" / "http.md").read_text(), re.DOTALL)

PYTHON = """
import sys, time
from creps_serve_client import AuthenticatedClient
from creps_serve_client.api.images import draw_image
from creps_serve_client.api.jobs import create_job, get_job
from creps_serve_client.models import ImagesRequest, JobRequest, JobRequestOutput, JobStatus, Problem

with AuthenticatedClient(sys.argv[1], "secret") as client:
    image = draw_image.sync(client=client, body=ImagesRequest(model="plain", seed=7, width=20, height=10))
    print(image.payload.read()[1:4].decode())
    problem = draw_image.sync(client=client, body=ImagesRequest(model="plain", seed=7, width=0))
    assert isinstance(problem, Problem)
    print(problem.field)
    order = JobRequest(model="plain", seed=7, width=300, height=200, tile=64, output=JobRequestOutput.TIFF)
    job = create_job.sync(client=client, body=order)
    while job.state in ("queued", "running"):
        time.sleep(0.05)
        job = get_job.sync(job.id, client=client)
        assert isinstance(job, JobStatus)
    print(job.state, job.tiles_done == job.tiles_total)
"""

TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const [, , baseUrl] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: "Bearer secret" } });
const body = { model: "plain", seed: 7, width: 20, height: 10 };
const image = await client.POST("/v1/images", { body, parseAs: "arrayBuffer" });
console.log(new TextDecoder().decode(new Uint8Array(image.data!, 1, 3)));
const refused = await client.POST("/v1/images", { body: { ...body, width: 0 } });
console.log(refused.error!.field);
const order = { ...body, width: 300, height: 200, tile: 64, output: "tiff" as const };
let job = (await client.POST("/v1/jobs", { body: order })).data!;
while (job.state === "queued" || job.state === "running") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  const found = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } });
  if (found.error) throw new Error(found.error.detail);
  job = found.data;
}
console.log(job.state, job.tiles_done === job.tiles_total ? "True" : "False");
"""

EXPECTED = ["PNG", "width", "succeeded True"]

PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20.19.25")

COMPILE = ("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--strict", "--skipLibCheck")


def run(command: Sequence[str | Path], folder: Path) -> list[str]:
    """The lines that a program prints. Fails if it does, or if it warns."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=2 * LONG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that needs a key, and a worker that draws patterns for its jobs."""
    folder = tmp_path_factory.mktemp("models")
    save_hollow_checkpoint(folder, "plain", GeneratorConfig(32))
    with run_gateway(folder, settings("secret")) as gateway, drawing(gateway):
        gateway.queue.alive = [WorkerInfo("worker", "cpu", "idle", ())]  # compilers may take longer than one may start
        yield gateway.address


@pytest.fixture
def description(address: str, tmp_path: Path) -> Path:
    """A file with the OpenAPI description."""
    file = tmp_path / "openapi.json"
    run(["curl", "--silent", "--fail", "--noproxy", "*", "--output", file, f"{address}/openapi.json"], tmp_path)
    return file


def test_python(address: str, description: Path, tmp_path: Path) -> None:
    generator = shutil.which("openapi-python-client", path=Path(sys.executable).parent)
    assert generator
    assert SETTINGS
    (tmp_path / "settings.yaml").write_text(f"{SETTINGS[1]}\npost_hooks: []\n")
    options = ["--meta", "none", "--output-path", "creps_serve_client", "--config", "settings.yaml"]
    run([generator, "generate", "--path", description, *options], tmp_path)
    (tmp_path / "program.py").write_text(PYTHON)
    assert run([sys.executable, "program.py", address], tmp_path) == EXPECTED


def test_typescript(address: str, description: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "node_modules").symlink_to(npm_packages(pytestconfig, "typescript-client", PACKAGES))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "program.ts").write_text(TYPESCRIPT)
    programs = tmp_path / "node_modules" / ".bin"
    options = ["--default-non-nullable=false", "--output", "schema.ts"]
    run([programs / "openapi-typescript", description, *options], tmp_path)
    run([programs / "tsc", *COMPILE, "program.ts"], tmp_path)
    assert run(["node", "program.js", address], tmp_path) == EXPECTED
