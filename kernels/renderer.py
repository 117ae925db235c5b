"""From a RenderSpec to 8-bit pixels: the one face of this package.

The bytes of a pixel depend on the checkpoint, the latent, the whole picture's size, region and grid, the backend and
the kind of machine; not on the crop, the band, other pictures of a batch or the number of threads.
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Backend
from kernels.blocks import BlockDrawer
from kernels.cpu import CpuBackend
from kernels.drawer import Band, Drawer, Output, Progress
from kernels.gather import check_coordinates
from kernels.precision import Agreement
from kernels.reference import ReferenceBackend
from model.checkpoint import Checkpoint
from model.device import find_device
from model.errors import InputError
from model.spec import Latent, RenderSpec

BackendName = Literal["triton", "cpu", "reference"]


class Renderer:
    """Draws pictures of one checkpoint. Safe to use from several threads.

    Args:
        checkpoint: is loaded at once. On a GPU its kernels are compiled and their precision is measured.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:0" …
        backend: None takes the fastest of the device that is precise enough.
        threads: pieces of work at once on a CPU; None takes the cores that torch would use.

    Attributes:
        precision: what was measured of each arithmetic that was tried, the one in use last; empty on a CPU.
        memory: bytes of the device that it takes at most between two pictures: the network and the lines that are kept.

    Raises:
        InputError: the checkpoint's tensors do not fit its config, or the device or backend is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        backend: BackendName | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError("threads", f"must be at least 1, not {threads}")
        if backend not in (None, *get_args(BackendName)):
            raise InputError("backend", f"must be one of {', '.join(get_args(BackendName))}, not {backend!r}")
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.device = find_device(device)
        self.precision: Sequence[Agreement] = ()
        if backend == "cpu" and self.device.type != "cpu":
            raise InputError("backend", f"cpu does not run on {self.device}")
        if backend == "triton" or (backend is None and self.device.type == "cuda"):
            before = self._allocated()
            self._drawer: Drawer
            self._drawer, self.precision = self._choose_arithmetic(fall_back=backend is None)
            weights = self._allocated() - before
        else:
            generator = checkpoint.load()
            weights = sum(tensor.nbytes for tensor in generator.state_dict().values())
            network: Backend[Any] = (
                ReferenceBackend(generator, self.device) if backend == "reference" else CpuBackend(generator)
            )
            self._drawer = BlockDrawer(network, self.config, self.device, threads)
        self.memory = weights + self._drawer.cache_bytes

    @property
    def backend(self) -> str:
        """Name of the backend that draws."""
        return self._drawer.name

    def close(self) -> None:
        """Gives the device's memory back, to other processes too. Nothing can be drawn after that."""
        if isinstance(self._drawer, BlockDrawer):
            self._drawer.close()
        del self._drawer
        gc.collect()  # captured graphs and what they hold refer to each other
        if self.device.type == "cuda":
            # empty_cache leaves cuBLAS' workspaces: one for each stream that multiplied matrices, 32 MiB on an H100.
            with contextlib.suppress(AttributeError):  # torch makes no promise that it stays
                torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """The line bundles [bundles, 32, L, D] of network coordinates [L] along one axis (ROWS or COLUMNS).

        Raises:
            InputError: the latent does not fit the network.
        """
        latent.check(self.config)
        return self._drawer.lines(latent, positions, axis)

    def render(self, spec: RenderSpec, progress: Progress | None = None) -> Output:
        """The picture's crop [h, w, 3]. A value that is not a number becomes 0.

        Raises:
            InputError: the latent does not fit the network.
        """
        return self.render_batch([spec], progress)[0]

    def render_batch(self, specs: Sequence[RenderSpec], progress: Progress | None = None) -> list[Output]:
        """Several pictures, drawn together: small ones keep the whole device busy.

        Raises:
            InputError: a latent does not fit the network; nothing has been drawn then.
        """
        for spec in specs:
            spec.latent.check(self.config)
        outputs = [self._drawer.allocate(spec.viewport.crop[3], spec.viewport.crop[2]) for spec in specs]
        bands = (band for spec, output in zip(specs, outputs, strict=True) for band in self._cut(spec, output))
        for _ in self._drawer.draw(bands, progress):
            pass
        return outputs

    def bands(self, spec: RenderSpec, progress: Progress | None = None) -> Iterator[Output]:
        """The picture's crop from top to bottom, in bands [rows, w, 3], few of them drawn before they are asked for.

        Memory does not grow with the picture: a band is about a quarter of a megapixel for each thread, four megapixels
        on a GPU, or up to 64 where the crop is so wide that its columns' lines exceed half the cache.

        Raises:
            InputError: the latent does not fit the network; raised here, not by the first band.
        """
        spec.latent.check(self.config)
        return (band.output for band in self._drawer.draw(self._cut(spec), progress))

    def warp(self, latent: Latent, coordinates: NDArray[np.float64]) -> Output:
        """Pixels [H, W, 3] at any network coordinates [H, W, 2] (vertical, horizontal); 0 … 1 is the training square.

        Lines between sampled ones are interpolated, so that pixels may be a level off.

        Raises:
            InputError: the latent does not fit the network, the coordinates are out of bounds, or the backend is not
                triton.
        """
        latent.check(self.config)
        check_coordinates(coordinates)
        return self._drawer.warp(latent, coordinates)

    def cost(self, spec: RenderSpec) -> int:
        """Multiply-adds that drawing takes, those of lines that are still kept from before included.

        Raises:
            InputError: the latent does not fit the network.
        """
        spec.latent.check(self.config)
        tiling = self._drawer.plan(spec.viewport)
        return sum(tiling.macs(self.config, rows) for rows in tiling.bands())

    def _allocated(self) -> int:
        """Bytes that this process holds on a GPU; 0 on a CPU, where nobody counts."""
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _cut(self, spec: RenderSpec, output: Output | None = None) -> Iterator[Band]:
        """The picture's bands, each with its part of ``output``, or memory of its own."""
        tiling = self._drawer.plan(spec.viewport)
        for rows in tiling.bands():
            top, bottom = tiling.rows.visible(rows)
            part = self._drawer.allocate(bottom - top, spec.viewport.crop[2]) if output is None else output[top:bottom]
            yield Band(spec.latent, tiling, rows, part)

    def _choose_arithmetic(self, *, fall_back: bool) -> tuple[Drawer, tuple[Agreement, ...]]:
        """The fastest kernels that are precise enough; where none is, the network itself, if it may ``fall_back``."""
        from kernels.arithmetic import choose_drawer  # Triton is not there on every machine

        return choose_drawer(self.checkpoint, self.device, fall_back=fall_back)
