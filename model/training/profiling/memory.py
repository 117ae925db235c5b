"""The memory that a recipe will need, found by rehearsing a step with tensors that have shapes but no values."""

import gc
import warnings
import weakref
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.training.ada import sym6_taps
from model.training.config import TrainingConfig
from model.training.processes import Processes
from model.training.state import TrainingState
from model.training.step import TrainingStep


@dataclass(frozen=True)
class Memory:
    """What one process of a run holds, in bytes: tensors alone, without what kernels take as working space and what an
    allocator loses to fragments.

    Attributes:
        resting: networks, optimisers and running means, between two steps.
        peak: the most during a step in which every penalty is due.
    """

    resting: int
    peak: int


def rehearse(config: TrainingConfig, processes: int = 1) -> Memory:
    """Takes one step of one of so many processes. Needs little memory itself, and at 1024² a minute or two."""
    # The parts of a share come one after the other, each like the first.
    part = config.microbatch or config.batch // processes
    config = replace(config, batch=part, microbatch=0, compile=False)
    with FakeTensorMode(allow_non_fake_inputs=True), LiveMemory() as memory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # torch does it itself
        state = TrainingState(config, torch.device("cpu"))
        side, classes = config.generator.resolution, config.generator.classes
        label = torch.zeros(part, classes) if classes else None
        TrainingStep(state, Processes())(torch.zeros(part, 3, side, side), label)
        sym6_taps.cache_clear()  # the rehearsal's have no values
        gc.collect()
        return Memory(memory.live, memory.peak)


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that were made while it is entered and still exist.

    Attributes:
        live: bytes now.
        peak: the most so far, to a tenth.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()  # what is there already need not be looked at again and again
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        gc.unfreeze()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        if self.live > 1.1 * self.peak:
            gc.collect()  # fake tensors hold one another where real ones do not
            self.peak = max(self.peak, self.live)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
