"""Data-parallel training with one process per GPU, started by torchrun.

Every process holds all networks and draws the random numbers of the whole batch, but computes only its share of the
images: those with index rank, rank + size, rank + 2·size … The minibatch standard deviation groups images with the same
stride, so its groups do not depend on the number of processes, and neither does the result of training.

Gradients are averaged explicitly before each optimizer step. DistributedDataParallel's hooks do not support the second
derivatives of the penalties.
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
"""Time limit of a collective operation: the main process may be writing a snapshot or computing metrics."""


class Distributed:
    """The process group as seen from one process. A single process does not communicate.

    Args:
        rank: index of this process, 0 … size − 1. Process 0 writes files and logs.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        # Flags and objects go through gloo: NCCL would synchronize the GPUs for them.
        self._host_group = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """This process's share of a batch, [N, …] → [N / size, …]."""
        return batch[self.rank :: self.size]

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Mean over all processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def all_reduce_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces gradients by their mean over all processes, in one message."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        mean = self.all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
        means = torch.split(mean, [gradient.numel() for gradient in gradients])
        for gradient, values in zip(gradients, means, strict=True):
            gradient.copy_(values.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        result = torch.tensor(int(flag))
        dist.all_reduce(result, dist.ReduceOp.MAX, group=self._host_group)
        return bool(result)

    def broadcast(self, value: T) -> T:
        """The main process's value."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._host_group)
        return values[0]

    def close(self) -> None:
        """Drops the host group. Its threads run while it is referenced, and one that frees a tensor while Python shuts
        down aborts the process."""
        self._host_group = None


@contextmanager
def init_distributed(device: torch.device) -> Iterator[tuple[Distributed, torch.device]]:
    """Joins the process group that torchrun started; without torchrun, a group of one process.

    Yields:
        The process group, and this process's device: ``cuda:LOCAL_RANK`` if the device is a GPU.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Distributed(), device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                "device", f"process {local} of this machine has no GPU; torch sees {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Import it before there is a group: its default arguments would keep a reference to the group.
    importlib.import_module("torch.distributed.nn")
    if device.type == "cuda":  # NCCL guesses the GPU of a process that does not say which it has
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    with ExitStack() as cleanup:
        cleanup.callback(dist.destroy_process_group)
        distributed = Distributed(dist.get_rank(), size)
        cleanup.callback(distributed.close)
        yield distributed, device
