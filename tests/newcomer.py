"""A user who follows the documentation: runs its commands and checks their results."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import yaml
from PIL import Image
from standardwebhooks import Webhook

from service.cli import main
from service.models.catalog import DEMO
from tests.documents import ROOT
from tests.model.data.images import write_images
from tests.model.training.test_official_state import write_original
from tests.service.ports import free_port
from tests.service.waiting import LONG

ADDRESSES = ("http://127.0.0.1:8000", "http://localhost:8000")
"""Addresses of the service in the documentation."""

SHIM = f'#!/bin/sh\nexec "{sys.executable}" -m service "$@"\n'

CURLRC = 'silent\nshow-error\nnoproxy = "*"\nwrite-out = "%{stderr}%{http_code}"\n'

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF"}


def make_home(folder: Path) -> Path:
    """Fills a home folder with the program ``creps`` and the settings of curl."""
    (folder / "bin").mkdir()
    (folder / "bin" / "creps").write_text(SHIM)
    (folder / "bin" / "creps").chmod(0o755)
    (folder / ".curlrc").write_text(CURLRC)
    return folder


LAST_CHECKPOINT = Path("runs/mine/checkpoint-001000000.safetensors")
"""The end of the documentation's run."""


def add_files(folder: Path, options: str) -> None:
    """Adds the files that the documentation's commands use: images, networks, a finished run.

    Args:
        options: of ``creps train``, for a small network.
    """
    write_images(folder / "PICTURES")
    write_original(folder / "original-network.pkl")
    run, data = folder / "runs" / "faces", folder / "data" / "mine.zip"
    assert main(["dataset", str(folder / "PICTURES"), str(data), "--resolution", "8"]) == 0
    (folder / "metfaces.zip").write_bytes(data.read_bytes())
    training = f"--preset tiny-32 {options} --total-kimg 0.008 --metrics none --device cpu".split()
    assert main(["train", "--data", str(data), "--outdir", str(run), *training]) == 0
    (state,) = run.glob("state-*.pt")
    state.rename(run / "state-025000000.pt")
    (checkpoint,) = run.glob("checkpoint-*.safetensors")
    keyframes = [{"time": 0, "seed": 2}, {"time": 0.5, "seed": 2, "region": [0.3, 0.35, 0.5, 0.55], "rotate": 20}]
    (folder / "keyframes.json").write_text(json.dumps({"keyframes": keyframes}))
    shutil.copy(DEMO, folder / "faces.safetensors")
    for name in (LAST_CHECKPOINT, "models/mine.safetensors", "checkpoints/mine.safetensors"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(checkpoint.read_bytes())


def _environment(home: Path) -> dict[str, str]:
    """The environment without settings of the service."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CREPS_", "OTEL_"))}
    path = os.pathsep.join((str(home / "bin"), kept["PATH"]))
    return kept | {"HOME": str(home), "CURL_HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT)}


@contextmanager
def served(command: str, home: Path) -> Iterator[str]:
    """Runs ``creps serve`` on a free port. Yields its address when it listens."""
    port = free_port()
    line = f"{command} --port {port} --device cpu --request-timeout {4 * LONG}"  # the first image compiles kernels
    with subprocess.Popen(["bash", "-c", line], cwd=home, env=_environment(home), stdout=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + LONG
            while not _lives(address):
                assert process.poll() is None, f"{command} has exited"
                assert time.monotonic() < end, f"{command} does not listen"
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()


def _lives(address: str) -> bool:
    try:
        return httpx.get(f"{address}/livez").is_success
    except httpx.TransportError:
        return False


class Newcomer:
    """Runs commands in a home folder. A service that it starts replaces the one at ``address``."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._address = address
        self._keys: dict[str, str] = {}
        self._job = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def here(self, text: str) -> str:
        """The text with the address of the running service."""
        for address in ADDRESSES:
            text = text.replace(address, self._address)
        return text

    def signed(self, webhook: Webhook, body: str) -> dict[str, str]:
        """The headers of a webhook message, as the service signs it."""
        now = datetime.now(UTC)
        signature = webhook.sign("msg_1", now, body)
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }

    def _bash(self, line: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._home,
            env=_environment(self._home),
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done

    def curl(self, command: str, shown: Sequence[str]) -> None:
        """Runs curl. An error response is accepted only if the document shows exactly this response."""
        if "/jobs/ID" in command:
            command = command.replace("/jobs/ID", f"/jobs/{self._ended_job()}")
        done = self._bash(self.here(command))
        if int(done.stderr) >= 400:
            assert done.stdout.strip() in shown, f"{command}: {done.stderr} {done.stdout}"
        for file in re.findall(r"-o (\S+)", command):
            self._check_file(file)

    def _check_file(self, file: str) -> None:
        """Reads an image, or a zip or npz."""
        if Path(file).suffix in (".zip", ".npz"):
            with zipfile.ZipFile(self._home / file) as archive:
                assert archive.testzip() is None
                assert archive.namelist()
            return
        with Image.open(self._home / file) as image:
            assert image.format == FORMATS[Path(file).suffix]
            image.load()

    def _ended_job(self) -> str:
        """The id of a job that has succeeded."""
        if not self._job:
            order = {"model": "demo", "width": 256, "height": 256, "output": "tiff"}
            status = httpx.post(f"{self._address}/v1/jobs", json=order, timeout=LONG).raise_for_status().json()
            self._job = status["id"]
            end = time.monotonic() + LONG
            while status["state"] != "succeeded":
                assert status["state"] in ("queued", "running")
                assert time.monotonic() < end
                time.sleep(0.05)
                status = httpx.get(f"{self._address}/v1/jobs/{self._job}", timeout=LONG).json()
        return self._job

    def serve(self, command: str) -> None:
        """Starts the service, and checks that it serves the models and requires the keys of the command."""
        self._address = self._stack.enter_context(served(command, self._home))
        keys = re.findall(r"CREPS_API_KEYS=([^,\s]+)", command)
        keys += [key for file, key in self._keys.items() if f"CREPS_API_KEYS_FILE={file} " in command]
        models = f"{self._address}/v1/models"
        assert httpx.get(models, timeout=LONG).status_code == (401 if "CREPS_API_KEYS" in command else 200)
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        answer = httpx.get(models, headers=headers, timeout=LONG).raise_for_status()
        names = {model["name"] for model in answer.json()["models"]}
        for folder in re.findall(r"--models (\S+)", command):
            names -= {file.stem for file in Path(folder.replace("~", str(self._home))).glob("*.safetensors")}
        assert names == {"demo"}

    def key(self, command: str) -> None:
        """Makes a key, and remembers it by the name of its file."""
        done = self._bash(command)
        self._keys[command.split()[-1]] = done.stderr.split()[-1]

    def creps(self, command: str) -> None:
        """Runs any other command of creps in this process. The files that it should write must exist."""
        program, *arguments = shlex.split(command)
        assert program == "creps"
        if arguments[0] == "dataset":
            Path(arguments[2]).unlink(missing_ok=True)  # those who prepare a data set have none of that name
        # Nor have those who begin a run the checkpoint of its end, which later commands use.
        aside = Path("aside.safetensors")
        if begun := arguments[0] == "train" and LAST_CHECKPOINT.exists():
            LAST_CHECKPOINT.rename(aside)
        assert main(arguments) == 0
        if begun:
            LAST_CHECKPOINT.parent.mkdir(exist_ok=True)
            aside.rename(LAST_CHECKPOINT)
        files = re.findall(r"(?:--output|--figure|--outdir|import \S+|dataset \S+) (\S+)", command)
        for file in files:
            assert Path(file).exists(), f"{command}: no {file}"
            if Path(file).suffix in FORMATS:
                self._check_file(file)
            if command.startswith("creps train"):
                assert list(Path(file).glob("state-*.pt"))

    def make(self, command: str) -> None:
        """Runs make --dry-run, to check that the target exists."""
        assert self._bash(f"MAKEFLAGS= {command} --dry-run --directory {ROOT}").stdout

    def compose(self, command: str) -> None:
        """Checks profile and services against the file, without Docker."""
        words = shlex.split(command)
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
        assert words[:3] == ["docker", "compose", "--profile"], command
        assert words[3] in profiles, f"{command}: no such profile"
        assert words[4] == "up", command
        for option, value in re.findall(r" (--[\w-]+)(?: (\w[^ ]*))?", command.partition(" up")[2]):
            assert option in ("--build", "--detach", "--no-deps", "--scale"), command
            assert not value or value.partition("=")[0] in services, f"{command}: no such service"

    def build(self, command: str) -> None:
        """Checks the file and its build arguments, without Docker."""
        (file,) = re.findall(r"-f (\S+)", command)
        text = (ROOT / file).read_text()
        for name in re.findall(r"--build-arg (\w+)=", command):
            assert re.search(rf"^ARG {name}\b", text, re.MULTILINE), f"{file} has no {name}"
        assert command.endswith(" ."), command
