"""One worker process per GPU of a machine, restarted when it dies."""

import asyncio
import logging
import sys
from collections.abc import Sequence

from model.errors import InputError
from service.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "service", "worker")

KILL_TIMEOUT = 28.0
"""Seconds from SIGTERM to SIGKILL: more than a worker's own SHUTDOWN_TIMEOUT, less than the 30 s of Kubernetes."""


def choose_gpus(asked: str, count: int) -> list[str]:
    """The devices of the setting ``gpus``, ``all`` or numbers separated by commas, if torch sees ``count`` GPUs.

    Raises InputError if one does not exist, or is named twice.
    """
    numbers = list(range(count)) if asked == "all" else [int(number) for number in asked.split(",")]
    if not numbers:
        raise InputError("gpus", "there is no GPU that torch sees; creps worker without --gpus renders on the CPU")
    if missing := [number for number in numbers if number >= count]:
        raise InputError("gpus", f"GPU {missing[0]} is not there: torch sees {count}")
    if len(set(numbers)) < len(numbers):
        raise InputError("gpus", f"{asked} names a GPU twice; one worker keeps a GPU busy")
    return [f"cuda:{number}" for number in numbers]


async def run_workers(devices: Sequence[str], metrics_port: int | None, stopping: asyncio.Event) -> None:
    """Runs a worker on each device until ``stopping`` is set, then lets them finish what they hold.

    They read all other settings from the environment. Their metrics ports count up from ``metrics_port``. Raises
    InputError if a worker exited with status 2; the others have been stopped.
    """
    unusable: list[str] = []

    async def run(number: int, device: str) -> None:
        port = () if metrics_port is None else ("--metrics-port", str(metrics_port + number))
        async with Supervisor(
            f"worker {number} on {device}", (*WORKER, "--device", device, *port), KILL_TIMEOUT
        ) as child:
            waiting = [asyncio.create_task(stopping.wait()), asyncio.create_task(child.given_up())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                unusable.append(device)
                stopping.set()
            waiting[0].cancel()

    async with asyncio.TaskGroup() as tasks:
        for number, device in enumerate(devices):
            tasks.create_task(run(number, device))
    if unusable:
        raise InputError("worker", f"on {unusable[0]} cannot run with its settings; its message is above")
