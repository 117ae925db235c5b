"""One training run in several processes, started by torchrun, one for each GPU.

Every process holds all networks and draws the random numbers of the whole batch, but works on its share of the pictures
alone: numbers rank, rank + size, rank + 2·size … The minibatch deviation groups pictures that lie evenly apart, so its
groups are the same as in one process, and gradients averaged over the processes are those of the whole batch: how many
processes there are does not change what is learnt. The gradients are averaged as DistributedDataParallel does, but
between the penalties' second derivatives and the optimiser, where its hooks do not reach.
"""

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from model.errors import InputError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: the first one may be writing a snapshot or computing metrics."""


class Processes:
    """The processes of a run, seen from one of them. A run in one process needs no communication.

    Args:
        rank: number of this process, 0 … size − 1. The first one writes files and reports.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        # Beside NCCL, which moves what lies on GPUs and would stall them for a flag.
        self._host = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of something that every process has for the whole batch, [N, …] → [N / size, …]."""
        return batch[self.rank :: self.size]

    def average(self, values: Tensor) -> Tensor:
        """The mean of every process's values, the same in all of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces gradients by their mean over the processes, in one message."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        mean = self.average(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(mean, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all of them get the same answer."""
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag))
        dist.all_reduce(answer, dist.ReduceOp.MAX, group=self._host)
        return bool(answer)

    def from_first(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._host)
        return values[0]

    def leave(self) -> None:
        """Lets the exchange go before it is destroyed. A group's threads run for as long as anything refers to it, and
        one that drops its last tensor while Python ends would abort the process."""
        self._host = None


@contextmanager
def join(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Joins the processes that torchrun started; without torchrun this one is alone.

    Yields:
        The processes, and this one's device: of several GPUs the one of its local rank.

    Raises:
        InputError: fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                "device", f"process {local} of this machine has no GPU; torch sees {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Defaults of its functions hold whatever group exists when it is imported, which an optimiser's first step may do.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    with ExitStack() as leaving:
        leaving.callback(dist.destroy_process_group)
        processes = Processes(dist.get_rank(), size)
        leaving.callback(processes.leave)
        yield processes, device
