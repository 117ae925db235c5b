"""Renderer: from a RenderSpec to 8-bit pixels. The public interface of this package.

The bytes of a pixel depend on the checkpoint, the latent, the size, region and grid of the whole image, the backend and
the kind of machine. They do not depend on the crop, the band, other images of a batch or the number of threads.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.accuracy import AccuracyReport
from kernels.backend import Progress, RenderBackend
from kernels.block_renderer import BlockBackend
from kernels.cpu import CpuBackend
from kernels.native.select_backend import select_backend
from kernels.reference import ReferenceBackend
from kernels.tiling import Band, Output
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.geometry.orientation import UPRIGHT
from model.latents.direction import Direction, name_vectors
from model.latents.direction_files import load_directions
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.util.device import find_device
from model.viewport import Viewport

STRIP_PIXELS = 1 << 22
"""Pixels of a band of a transformed image."""

STRIP_STEP = 64
"""Height that the heights of these bands are multiples of."""

BackendName = Literal["triton", "native", "cpu", "reference"]


class _AbandonedError(Exception):
    """No image of a batch is wanted any more."""


class Renderer:
    """Renders images of one checkpoint. Thread-safe; on a GPU, use one thread for all renderers of the device.

    All methods that take a latent raise InputError, before anything is rendered, if it does not fit the network.

    Args:
        checkpoint: loaded at once. Kernels are compiled when they are first used, and their accuracy is measured.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:0" …
        backend: None selects the fastest accurate backend of the device.
        threads: pieces of work at once on a CPU; None uses the cores that torch would use.

    Attributes:
        precision: accuracy reports of each precision that was tried, the one in use last; empty for the
            backends cpu and reference.
        memory: upper limit of the device memory in bytes that is held between two images: weights, and the
            line cache of a GPU. On a CPU all models of a process share one (kernels/line_cache.py).

    Raises:
        InputError: the checkpoint's tensors do not fit its config, or the device or backend is not available.
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
        self.precision: Sequence[AccuracyReport] = ()
        self._directions: dict[str, Direction] | None = None
        self._backend: RenderBackend
        if backend in ("native", "cpu") and self.device.type != "cpu":
            raise InputError("backend", f"{backend} does not run on {self.device}")
        if backend == "triton" or (backend is None and self.device.type == "cuda"):
            from kernels.gpu.select_precision import select_precision  # Triton is not installed on every machine

            before = self._allocated()
            self._backend, self.precision = select_precision(checkpoint, self.device, fall_back=backend is None)
            weights = self._allocated() - before
        else:
            generator = checkpoint.load()
            weights = sum(tensor.nbytes for tensor in generator.state_dict().values())
            block_backend: BlockBackend[Any]
            if backend == "reference":
                block_backend = ReferenceBackend(generator, self.device, threads)
            elif backend == "cpu":
                block_backend = CpuBackend(generator, threads)
            else:
                block_backend, self.precision = select_backend(checkpoint.name, generator, threads)
                if backend == "native" and block_backend.name != backend:
                    raise InputError("backend", "native needs kernels that cannot be compiled here; the log tells why")
            weights += block_backend.packed_bytes
            self._backend = block_backend
        self.memory = weights + self._backend.cache_bytes

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    @property
    def arithmetic(self) -> str:
        """What decides the last bits of a pixel besides the network: precision, kernels and device."""
        return self._backend.arithmetic

    def close(self) -> None:
        """Return the device's memory, to other processes too. The renderer cannot be used afterwards."""
        self._backend.close()
        del self._backend
        gc.collect()  # CUDA graphs and what they hold refer to each other
        if self.device.type == "cuda":
            # empty_cache leaves cuBLAS' workspaces: one per stream that multiplied matrices, 32 MiB on an H100.
            with contextlib.suppress(AttributeError):  # a private function of torch, which may disappear
                torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """The line bundles [bundles, 32, L, D] at network coordinates [L] along one axis (ROWS or COLUMNS)."""
        return self._backend.lines(self._resolve(latent), positions, axis)

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        """The styles w+ [num_ws, w_dim] of a latent. As a latent of their own they have the same image."""
        styles: NDArray[np.float32] = self._backend.styles(self._resolve(latent)).cpu().numpy()
        return styles

    def render(self, spec: RenderSpec, progress: Progress | None = None) -> Output:
        """Render the image's crop [h, w, 3]: 8-bit levels, NaN as 0; or colours as float32 if its encoding is deep."""
        return self.render_batch([spec], progress)[0]

    def render_batch(
        self,
        specs: Sequence[RenderSpec],
        progress: Progress | None = None,
        wanted: Sequence[Callable[[], bool]] | None = None,
    ) -> list[Output]:
        """Render several images together, which keeps the device busy when they are small.

        Args:
            wanted: for each image, whether it is still wanted. They are called in this thread after each piece of work,
                and must be fast. Images that are no longer wanted have undefined pixels.
        """
        latents = [self._resolve(spec.latent) for spec in specs]
        upright = [spec.viewport.upright for spec in specs]
        shown = [spec.viewport if found is None else found[0] for spec, found in zip(specs, upright, strict=True)]
        outputs = [
            self._backend.allocate(viewport.crop[3], viewport.crop[2], deep=spec.encoding.is_deep)
            for viewport, spec in zip(shown, specs, strict=True)
        ]
        asked = wanted or [lambda: True] * len(specs)
        works = list(zip(shown, latents, outputs, upright, asked, strict=True))
        bands = (
            band
            for viewport, latent, output, found, is_wanted in works
            if found is not None
            for band in self._cut(viewport, latent, output)
            if is_wanted()
        )
        with contextlib.suppress(_AbandonedError):
            for _ in self._backend.render(bands, _while_wanted(asked, progress)):
                pass
        for viewport, latent, output, found, is_wanted in works:
            if found is None:
                with contextlib.suppress(_AbandonedError):
                    self._backend.warp(latent, viewport, output, _while_wanted([is_wanted], progress))
        return [
            output if found is None or found[1] == UPRIGHT else np.ascontiguousarray(found[1].apply(output))
            for output, found in zip(outputs, upright, strict=True)
        ]

    def bands(self, spec: RenderSpec, progress: Progress | None = None) -> Iterator[Output]:
        """Render the image's crop lazily, from top to bottom, in bands [rows, w, 3].

        Memory does not grow with the image's height. A band has about a quarter of a megapixel per thread, four
        megapixels on a GPU, and up to 64 if the crop is so wide that its columns' lines exceed half the cache.
        """
        latent = self._resolve(spec.latent)
        if spec.viewport.upright != (spec.viewport, UPRIGHT):
            return (self.render(part, progress) for part in _strips(spec))
        bands = self._cut(spec.viewport, latent, deep=spec.encoding.is_deep)
        return (band.output for band in self._backend.render(bands, progress))

    def cost(self, spec: RenderSpec) -> int:
        """Multiply-adds of an image, including those of lines that are already in the cache.

        Of a warped image, those of its pixels, as if each were one sample.
        """
        spec.latent.check(self.config)
        if spec.viewport.upright is None:
            return spec.viewport.pixels * self.config.pixel_macs
        tiling = self._backend.plan(spec.viewport.upright[0])
        return sum(tiling.macs(self.config, rows) for rows in tiling.bands())

    def _allocated(self) -> int:
        """Bytes that this process has allocated on a GPU; 0 on a CPU."""
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _resolve(self, latent: Latent) -> Latent:
        """The latent, checked, with vectors in place of the names of directions, which may be computed first."""
        latent.check(self.config)
        if not latent.names_directions:
            return latent
        if self._directions is None:
            self._directions = load_directions(self.checkpoint)
        return name_vectors(latent, self._directions)

    def _cut(
        self, viewport: Viewport, latent: Latent, output: Output | None = None, *, deep: bool = False
    ) -> Iterator[Band]:
        """The image's bands, each with its part of ``output`` or with memory of its own."""
        tiling = self._backend.plan(viewport)
        for rows in tiling.bands():
            top, bottom = tiling.rows.visible(rows)
            part = output[top:bottom] if output is not None else None
            if part is None:
                part = self._backend.allocate(bottom - top, viewport.crop[2], deep=deep)
            yield Band(latent, tiling, rows, part)


def _strips(spec: RenderSpec) -> Iterator[RenderSpec]:
    """The image's crop as images of full width, from top to bottom."""
    x, y, w, h = spec.viewport.crop
    height = max(1, STRIP_PIXELS // (w * STRIP_STEP)) * STRIP_STEP
    for top in range(y, y + h, height):
        crop = x, top, w, min(height, y + h - top)
        yield replace(spec, viewport=replace(spec.viewport, crop=crop))


def _while_wanted(wanted: Sequence[Callable[[], bool]], progress: Progress | None) -> Progress:
    """Progress that raises _AbandonedError once none of some images is wanted."""

    def advance(macs: int) -> None:
        if progress is not None:
            progress(macs)
        if not any(is_wanted() for is_wanted in wanted):
            raise _AbandonedError

    return advance
