"""Several workers of one machine, each a process with a device of its own, started again when it dies."""

import asyncio
import logging
import sys
from collections.abc import Sequence

from model.errors import InputError
from service.supervisor import Supervisor

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "service", "worker")

GRACE_SECONDS = 28.0
"""From SIGTERM to SIGKILL: a little more than a worker takes by itself, and less than the 30 s of Kubernetes."""


def choose_gpus(asked: str, count: int) -> list[str]:
    """The devices that ``all``, or numbers separated by commas, name.

    Args:
        asked: the setting ``gpus``.
        count: GPUs that there are.

    Raises:
        InputError: one of them is not there, or named twice.
    """
    numbers = list(range(count)) if asked == "all" else [int(number) for number in asked.split(",")]
    if not numbers:
        raise InputError("gpus", "there is no GPU that torch sees; creps worker without --gpus draws on the CPU")
    if missing := [number for number in numbers if number >= count]:
        raise InputError("gpus", f"GPU {missing[0]} is not there: torch sees {count}")
    if len(set(numbers)) < len(numbers):
        raise InputError("gpus", f"{asked} names a GPU twice; one worker keeps a GPU busy")
    return [f"cuda:{number}" for number in numbers]


async def run_workers(devices: Sequence[str], metrics_port: int | None, stopping: asyncio.Event) -> None:
    """Runs a worker on each device until ``stopping`` is set, then has all of them finish what they hold.

    Every other setting reaches them by the environment. Their metrics ports count up from ``metrics_port``.

    Raises:
        InputError: one of them said that it cannot run as it was asked to; the others have been stopped.
    """
    unusable: list[str] = []

    async def run(number: int, device: str) -> None:
        port = () if metrics_port is None else ("--metrics-port", str(metrics_port + number))
        async with Supervisor(
            f"worker {number} on {device}", (*WORKER, "--device", device, *port), GRACE_SECONDS
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
        raise InputError("worker", f"on {unusable[0]} cannot run as it was asked to, as it has said above")
