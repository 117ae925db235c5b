"""CUDA graphs for the lines of small pictures: without them, launching the kernels takes longer than running them."""

import threading
from typing import Any

import torch
from torch import Tensor

from kernels.lines import TILE, TILE_FIELDS
from kernels.network import GpuNetwork

CAPTURING = threading.Lock()
"""Held while a graph is captured: no other thread may wait for the device then, as torch does before a capture."""

POSITIONS = 2048
"""Most positions in a graph, rows and columns together; for more, launching takes less time than the work."""

STEP = 256
"""Positions are filled up to a multiple of this, so that there are few graphs."""


class _Captured:
    """The launches for one number of positions of one latent, and the memory that they read and write."""

    def __init__(
        self, network: GpuNetwork, vector: Tensor, positions: int, stream: torch.cuda.Stream, pool: Any
    ) -> None:
        device, tiles = network.device, positions * network.config.thickness // TILE
        self.vector = torch.zeros_like(vector)
        self.positions = torch.zeros(positions, dtype=torch.float64, device=device)
        self.axes = torch.zeros(positions, dtype=torch.int32, device=device)
        # Tiles beyond those that are asked for go to a page that nobody reads.
        self._unread = torch.empty(network.positions_per_tile, *network.line_shape, dtype=torch.float16, device=device)
        self.unread_tile = torch.tensor([[0, self._unread.data_ptr(), 0]], device=device)
        self.tiles = self.unread_tile.expand(tiles, TILE_FIELDS).contiguous()
        arguments = self.vector, self.positions, self.axes, self.tiles
        network.draw_lines(*arguments)  # compiles what has not been compiled
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            network.draw_lines(*arguments)


class LineGraphs:
    """``GpuNetwork.draw_lines``, replayed where one latent has few positions. Not for several threads at once."""

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        self._captured: dict[int, _Captured] = {}
        if network.device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()  # graphs that never run at once can share memory
            self._stream = torch.cuda.Stream(network.device)  # type: ignore[no-untyped-call]

    def draw_lines(self, vectors: Tensor, positions: Tensor, axes: Tensor, tiles: Tensor) -> None:
        """As :meth:`kernels.network.GpuNetwork.draw_lines`, on the current stream."""
        if vectors.device.type != "cuda" or len(vectors) > 1 or len(positions) > POSITIONS:
            self._network.draw_lines(vectors, positions, axes, tiles)
            return
        size = -(-len(positions) // STEP) * STEP
        if size not in self._captured:
            with CAPTURING:
                self._captured[size] = _Captured(self._network, vectors, size, self._stream, self._pool)
        captured = self._captured[size]
        captured.vector.copy_(vectors)
        captured.positions[: len(positions)].copy_(positions)
        captured.axes[: len(axes)].copy_(axes)
        captured.tiles[: len(tiles)].copy_(tiles)
        captured.tiles[len(tiles) :].copy_(captured.unread_tile)
        captured.graph.replay()

    def clear(self) -> None:
        """Gives up all graphs and their memory."""
        self._captured.clear()
        if self._network.device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()  # that of graphs which are gone cannot be used again
