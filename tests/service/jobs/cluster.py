"""The whole service as processes that can be killed: Redis with its append-only file, a gateway, workers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from redis.exceptions import RedisError

from service.runtime.embedded_redis import find_binary
from service.runtime.redis import connect
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.ports import free_port
from tests.service.waiting import eventually

Process = asyncio.subprocess.Process


@dataclass
class Cluster:
    """All parts on one machine, sharing a Redis, a folder of models and one of outputs.

    Attributes:
        folder: holds ``models``, ``outputs``, Redis' files and logs.
        worker: the command of a worker.
    """

    folder: Path
    worker: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    cache_bytes: int = 64 << 20
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("models", "redis", "cache", "logs"):
            (self.folder / name).mkdir(exist_ok=True)
        self.port = free_port()

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def redis_url(self) -> str:
        return f"unix://{self.folder}/redis/socket"

    @property
    def cache_url(self) -> str:
        return f"unix://{self.folder}/cache/socket"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self, *parts: str) -> AsyncIterator[None]:
        """Starts these parts, and waits until they are ready. None is left after the block."""
        try:
            for part in parts:
                await self.start(part)
            await eventually(self.is_ready)
            yield
        finally:
            await self.stop()

    async def start(self, name: str) -> None:
        """Starts a part: ``redis``, ``gateway``, ``worker-1`` … A gateway uses a ``cache`` that was started first.

        Waits for the end of the one that was killed before, whose port or socket it takes.
        """
        if name in self.processes:
            await self.processes[name].wait()
        environment = {
            key: value for key, value in os.environ.items() if key == "CREPS_NATIVE" or not key.startswith("CREPS_")
        }
        environment |= {
            "CREPS_REDIS_URL": self.redis_url,
            "CREPS_MODELS": str(self.models),
            "CREPS_OUTPUTS": self.outputs.as_uri(),
            **({"CREPS_CACHE_URL": self.cache_url} if "cache" in self.processes else {}),
            **self.environment,
        }
        with (self.folder / "logs" / name).open("a") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *self._command(name), stdout=log, stderr=log, env=environment
            )
        if name in ("redis", "cache"):
            await eventually(partial(self._answers, self.redis_url if name == "redis" else self.cache_url))

    def kill(self, name: str) -> None:
        """``kill -9``."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient(base_url=self.address, trust_env=False) as http:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

    def _command(self, name: str) -> list[str]:
        if name in ("redis", "cache"):
            folder = str(self.folder / name)
            options = {"--port": "0", "--unixsocket": f"{folder}/socket", "--dir": folder, "--save": ""}
            if name == "redis":
                options |= {"--appendonly": "yes", "--appendfsync": "everysec"}
            else:
                options |= {"--maxmemory": str(self.cache_bytes), "--maxmemory-policy": "allkeys-lru"}
            return [str(find_binary()), *(word for option in options.items() for word in option)]
        if name == "gateway":
            return [sys.executable, "-m", "service", "gateway", "--port", str(self.port)]
        return list(self.worker)

    async def _answers(self, url: str) -> bool:
        async with connect(url) as redis:
            try:
                answer: Any = await redis.ping()
            except RedisError:  # not there, or still reading its file
                return False
            return bool(answer)


@asynccontextmanager
async def stand_in_cluster(folder: Path, parts: Sequence[str], environment: dict[str, str]) -> AsyncIterator[Cluster]:
    """A cluster whose workers draw patterns, of the model ``pattern``, while the block runs."""
    command = [sys.executable, "-m", "tests.service.jobs.stand_in"]
    command += [f"unix://{folder}/redis/socket", str(folder / "models"), (folder / "outputs").as_uri()]
    cluster = Cluster(folder, command, environment)
    save_hollow_checkpoint(cluster.models, "pattern")
    async with cluster.running(*parts):
        yield cluster


async def persist(http: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Asks until there is an answer that is none of an outage, as a careful client does."""
    while True:
        try:
            answer = await http.request(method, path, **arguments)
        except httpx.HTTPError:
            await asyncio.sleep(0.1)
            continue
        if answer.status_code not in (429, 503, 504):
            return answer
        await asyncio.sleep(0.1)
