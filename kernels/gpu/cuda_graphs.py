"""CUDA graphs from z to lines for small images, whose kernels take longer to launch than to run."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import torch

from kernels.backend import any_latent
from kernels.gpu.line_inputs import LatentInput, LineInputs, max_block, pack_line_inputs
from kernels.gpu.model import PackedModel

logger = logging.getLogger(__name__)

CAPTURING = threading.Lock()
"""Held while a graph is captured. No other thread may synchronize with the device then."""

POSITIONS = 2048
"""Maximum number of positions in a graph, rows and columns together. Larger launches do not need one."""

STEP = 256
"""Positions are padded to a multiple of this number, to limit the number of graphs."""


def graphs_enabled(device: torch.device) -> bool:
    """Whether lines are replayed from graphs: on a GPU, unless ``CREPS_CUDA_GRAPHS=0``."""
    return device.type == "cuda" and os.environ.get("CREPS_CUDA_GRAPHS") != "0"


def capture(work: Callable[[], object], first: Any) -> Any:
    """A graph of the work's launches on the current stream, in the memory of the ``first`` graph if there is one.

    Graphs that never run at the same time can share memory. The largest must be captured first.
    """
    graph = torch.cuda.CUDAGraph()
    pool = None if first is None else first.pool()
    stream = torch.cuda.current_stream()
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph


class LineGraphs:
    """Graphs of ``PackedModel.compute_lines`` for one latent and few positions. Not thread-safe.

    They are captured by :meth:`capture_all` alone, never while a request waits, and belong to the model like its
    weights. Without them, or after a failed capture, kernels are launched one by one.
    """

    def __init__(self, model: PackedModel) -> None:
        self._model = model
        self._graphs: dict[int, Any] = {}

    def capture_all(self) -> None:
        """Capture a graph for each number of positions, on the current stream. A failure is only logged."""
        if not graphs_enabled(self._model.device):
            return
        try:
            with CAPTURING:
                self._capture_all()
        except RuntimeError as error:  # CUDA, the allocator and Triton's launcher raise it
            self._graphs.clear()
            logger.warning("CUDA graphs cannot be captured, small images take longer: %s", error, exc_info=True)

    def padded(self, latents: int, positions: int) -> int | None:
        """The number of positions of the graph for a batch, None if there is no graph for it."""
        size = -(-positions // STEP) * STEP
        return size if latents == 1 and size in self._graphs else None

    @property
    def sizes(self) -> list[int]:
        """Numbers of positions of the captured graphs."""
        return list(self._graphs)

    @property
    def unread(self) -> int:
        """Address for the lines of padding."""
        return self._unread.data_ptr()

    def replay(self, size: int, block: torch.Tensor) -> None:
        """Compute the lines of a block of :func:`kernels.gpu.line_inputs.pack_line_inputs`, on the current stream."""
        self._block[: len(block)].copy_(block)
        self._graphs[size].replay()

    def clear(self) -> None:
        """Release all graphs and their memory."""
        self._graphs.clear()

    def _capture_all(self) -> None:
        model, config = self._model, self._model.config
        self._unread = torch.empty(
            model.positions_per_tile, *model.line_shape, dtype=torch.float16, device=model.device
        )
        self._refinement = model.allocate_refinement()
        self._block = torch.zeros(max_block(config, POSITIONS), dtype=torch.uint8, device=model.device)
        for size in range(POSITIONS, 0, -STEP):
            latent = LatentInput(any_latent(config), self._refinement.data_ptr())
            block = torch.from_numpy(pack_line_inputs(config, [latent], [], size, self.unread))
            self._block[: len(block)].copy_(block)
            inputs = LineInputs.view(self._block, 1, size, config.thickness)
            model.compute_lines(inputs)  # compiles kernels, which is not possible during a capture
            first = next(iter(self._graphs.values()), None)
            self._graphs[size] = capture(lambda inputs=inputs: model.compute_lines(inputs), first)  # type: ignore[misc]
