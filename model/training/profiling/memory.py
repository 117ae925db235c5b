"""Estimates the memory of training by one step with fake tensors, which have shapes but no data."""

import functools
import gc
import warnings
import weakref
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.training.augment.ada import sym6_taps
from model.training.config import TrainingConfig
from model.training.distributed import Distributed
from model.training.patches import choose_patches
from model.training.state import TrainingState
from model.training.step import TrainingStep
from model.util.progress import PartTeller


@functools.cache
def estimate_peak_memory(config: TrainingConfig, processes: int = 1) -> int:
    """Peak bytes of one process in a step with all penalties: tensors, without workspaces and fragmentation.

    Takes some minutes at 1024², and little memory.
    """
    # Microbatches run one after the other with the same peak.
    batch = config.microbatch or config.batch // processes
    config = replace(config, batch=batch, microbatch=0, compile=False)
    side, classes = config.generator.resolution, config.generator.classes
    with FakeTensorMode(allow_non_fake_inputs=True), MemoryTracker() as memory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # done by torch itself
        state = TrainingState(config, torch.device("cpu"))
        patches = choose_patches(config, [round(side * config.generator.max_scale)] * batch, 0)
        step = TrainingStep(state, Distributed(), PartTeller("counting memory", "backward passes"))
        step(torch.zeros(batch, 3, side, side), torch.zeros(batch, classes), patches)
        sym6_taps.cache_clear()  # it holds fake tensors now
    return memory.peak


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that were created inside the context and are still alive.

    Attributes:
        live: current bytes.
        peak: maximum so far, accurate to 10 %.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._storages: set[int] = set()

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()  # keeps the collections below fast
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
                self._track(leaf.untyped_storage())
        if self.live > 1.1 * self.peak:
            gc.collect()  # unlike real tensors, fake ones are in reference cycles
            self.peak = max(self.peak, self.live)
        return result

    def _track(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self._storages.add(key)
            self.live += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.live -= size
