"""Somebody who follows the documentation: runs its commands, and looks whether they did what was promised."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
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
from tests.documents import ROOT
from tests.model.training.pictures import write_pictures
from tests.model.training.test_originals import write_original
from tests.service.waiting import LONG

ADDRESSES = ("http://127.0.0.1:8000", "http://localhost:8000")
"""Where the documentation has the service."""

SHIM = f'#!/bin/sh\nexec "{sys.executable}" -m service "$@"\n'

CURLRC = 'silent\nshow-error\nnoproxy = "*"\nwrite-out = "%{stderr}%{http_code}"\n'

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF"}


def make_belongings(folder: Path, recipe: str) -> Path:
    """Fills a folder with what the documentation takes for granted: pictures, networks, a run that has ended."""
    (folder / "bin").mkdir()
    (folder / "bin" / "creps").write_text(SHIM)
    (folder / "bin" / "creps").chmod(0o755)
    (folder / ".curlrc").write_text(CURLRC)
    write_pictures(folder / "PICTURES")
    write_original(folder / "original-network.pkl")
    run, data = folder / "runs" / "faces", folder / "data" / "mine.zip"
    assert main(["dataset", str(folder / "PICTURES"), str(data), "--resolution", "8"]) == 0
    (folder / "metfaces.zip").write_bytes(data.read_bytes())
    options = f"--preset tiny-32 {recipe} --total-kimg 0.008 --metrics none --device cpu".split()
    assert main(["train", "--data", str(data), "--outdir", str(run), *options]) == 0
    (state,) = run.glob("state-*.pt")
    state.rename(run / "state-025000000.pt")
    (checkpoint,) = run.glob("checkpoint-*.safetensors")
    for name in ("runs/mine/checkpoint-005000000", "models/mine", "checkpoints/mine"):
        file = (folder / name).with_suffix(".safetensors")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(checkpoint.read_bytes())
    return folder


def _environment(home: Path) -> dict[str, str]:
    """That of somebody new, for whom nothing is set."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CREPS_", "OTEL_"))}
    path = os.pathsep.join((str(home / "bin"), kept["PATH"]))
    return kept | {"HOME": str(home), "CURL_HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT)}


@contextmanager
def served(command: str, home: Path) -> Iterator[str]:
    """Runs a ``creps serve`` at a free port for as long as the block takes. Gives its address, once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    line = f"{command} --port {port} --device cpu"
    with subprocess.Popen(["bash", "-c", line], cwd=home, env=_environment(home), stdout=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + LONG
            while not _lives(address):
                assert process.poll() is None, f"{command} has ended"
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
    """Runs commands in its home folder. A service that it starts takes the place of the one that is there."""

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
        """The text with the address of the service that runs."""
        for address in ADDRESSES:
            text = text.replace(address, self._address)
        return text

    def signed(self, webhook: Webhook, body: str) -> dict[str, str]:
        """The headers of a message as the service sends it."""
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
        """Asks the service. An error is right only where the document shows this very answer."""
        if "/jobs/ID" in command:
            command = command.replace("/jobs/ID", f"/jobs/{self._ended_job()}")
        done = self._bash(self.here(command))
        if int(done.stderr) >= 400:
            assert done.stdout.strip() in shown, f"{command}: {done.stderr} {done.stdout}"
        for file in re.findall(r"-o (\S+)", command):
            self._look_at(file)

    def _look_at(self, file: str) -> None:
        with Image.open(self._home / file) as picture:
            assert picture.format == FORMATS[Path(file).suffix]
            picture.load()

    def _ended_job(self) -> str:
        """The name of a job whose picture is ready."""
        if not self._job:
            order = {"model": "demo", "width": 256, "height": 256, "output": "tiff"}
            told = httpx.post(f"{self._address}/v1/jobs", json=order, timeout=LONG).raise_for_status().json()
            self._job = told["id"]
            end = time.monotonic() + LONG
            while told["state"] != "succeeded":
                assert told["state"] in ("queued", "running")
                assert time.monotonic() < end
                time.sleep(0.05)
                told = httpx.get(f"{self._address}/v1/jobs/{self._job}", timeout=LONG).json()
        return self._job

    def serve(self, command: str) -> None:
        """Starts the service, and sees whether it has its models and wants its keys."""
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
        """Makes a key, and keeps it under the name of its file."""
        done = self._bash(command)
        self._keys[command.split()[-1]] = done.stderr.split()[-1]

    def creps(self, command: str) -> None:
        """Any other command of ours. What it was told to write must be there."""
        program, *arguments = shlex.split(command)
        assert program == "creps"
        assert main(arguments) == 0
        files = re.findall(r"(?:--output|--figure|--outdir|import \S+|dataset \S+) (\S+)", command)
        for file in files:
            assert Path(file).exists(), f"{command}: no {file}"
            if Path(file).suffix in FORMATS:
                self._look_at(file)
            if command.startswith("creps train"):
                assert list(Path(file).glob("state-*.pt"))

    def make(self, command: str) -> None:
        """Lets make tell what it would do: the target is there."""
        assert self._bash(f"MAKEFLAGS= {command} --dry-run --directory {ROOT}").stdout

    def compose(self, command: str) -> None:
        """Compares profile and services with the file, since there need not be an engine."""
        words = shlex.split(command)
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
        assert words[:3] == ["docker", "compose", "--profile"], command
        assert words[3] in profiles, f"{command}: no such profile"
        assert words[4] == "up", command
        for option, value in re.findall(r" (--\w+)(?: (\w[^ ]*))?", command.partition(" up")[2]):
            assert option in ("--build", "--detach", "--scale"), command
            assert option != "--scale" or value.partition("=")[0] in services, f"{command}: no such service"

    def build(self, command: str) -> None:
        """Compares a file and its arguments, since there need not be an engine."""
        (file,) = re.findall(r"-f (\S+)", command)
        text = (ROOT / file).read_text()
        for name in re.findall(r"--build-arg (\w+)=", command):
            assert re.search(rf"^ARG {name}\b", text, re.MULTILINE), f"{file} has no {name}"
        assert command.endswith(" ."), command
