"""Renders batches in a thread, and turns exceptions into failures that clients may see."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.spec import RenderSpec
from service.queue.messages import RenderFailed
from service.runtime import worker_metrics as metrics
from service.runtime.logs import log_context, merge
from service.worker.model_cache import LoadedModel, ModelCache

logger = logging.getLogger(__name__)

STALL_TIMEOUT, MIN_RATE = 600.0, 10_000.0
"""A batch is stalled after STALL_TIMEOUT seconds, and a second more for every MIN_RATE pixels: the paper's 512² network
renders 334,000 pixels a second on two cores (BENCHMARKS.md), and no model takes minutes to load and compile."""

PixelArray = NDArray[np.uint8]

Contexts = Sequence[Mapping[str, str]]
"""For each spec of a batch, the fields of log messages about it."""

Wanted = Sequence[Callable[[], bool]]
"""For each spec of a batch, whether its image is still wanted. Once False, it stays so. Called in the render thread."""

Outcome = NDArray[Any] | RenderFailed
"""The image [h, w, 3] or the styles [num_ws, w_dim] of a spec, or why there are none."""

Outcomes = Sequence[Outcome]
"""For each spec of a batch."""


class DeviceLostError(Exception):
    """The device reports the same error for all work, until the process ends: such a CUDA error is called sticky."""


class RenderExecutor:
    """Renders batches of one model each, in one thread: the renderer uses the whole device.

    ``synchronize`` waits for the device, and raises an exception if the device is lost.

    Attributes:
        lost: the error that was raised since the device is lost.
    """

    def __init__(self, models: ModelCache, synchronize: Callable[[], object]) -> None:
        self._models = models
        self._synchronize = synchronize
        self.lost: DeviceLostError | None = None
        self._overdue = math.inf
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")

    async def render(self, specs: Sequence[RenderSpec], contexts: Contexts, wanted: Wanted) -> Outcomes:
        """Renders specs that all name the same model. Outcomes that are no longer wanted are undefined.

        Raises DeviceLostError, after which nothing can be rendered.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._render, specs, contexts, wanted)

    async def load(self, digest: str) -> None:
        """Loads a model before it is asked for. A failure is logged, and met again by the first request.

        Raises DeviceLostError.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load, digest)

    async def styles(self, specs: Sequence[RenderSpec], contexts: Contexts) -> Outcomes:
        """The styles of the latents of specs that all name the same model. Raises DeviceLostError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find_styles, specs, contexts)

    async def evict_all_but(self, served: Set[str]) -> None:
        """Unloads models that are no longer served, after the current batch."""
        if not served >= set(self._models.digests):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._models.evict_all_but, served)

    @property
    def is_stalled(self) -> bool:
        """Whether the current batch takes longer than any should. Thread-safe."""
        return time.monotonic() > self._overdue

    def shutdown(self) -> None:
        """Waits for the current batch."""
        self._thread.shutdown()

    def _render(self, specs: Sequence[RenderSpec], contexts: Contexts, wanted: Wanted) -> Outcomes:
        self._overdue = time.monotonic() + STALL_TIMEOUT + sum(spec.viewport.pixels for spec in specs) / MIN_RATE
        try:
            with log_context(**merge(contexts)):
                outcomes = self._render_batch(specs, wanted)
        finally:
            self._overdue = math.inf
        if outcomes is None:  # render them one by one, so that only the faulty ones fail
            items = zip(specs, contexts, wanted, strict=True)
            return [self._render([spec], [context], [is_wanted])[0] for spec, context, is_wanted in items]
        return outcomes

    def _render_batch(self, specs: Sequence[RenderSpec], wanted: Wanted) -> Outcomes | None:
        """None where a batch of several failed."""
        model = self._load(specs[0].model)
        if isinstance(model, RenderFailed):
            return [model] * len(specs)
        started = time.perf_counter()
        try:
            images = model.renderer.render_batch(specs, wanted=wanted)
        except Exception as error:
            self._check_device(error)
            return [to_failure(error)] if len(specs) == 1 else None
        seconds = time.perf_counter() - started
        if not all(is_wanted() for is_wanted in wanted):
            return images  # what was left out would make the model look fast
        pixels = sum(spec.viewport.pixels for spec in specs)
        metrics.RENDER_DURATION.labels(model.name, model.renderer.backend).observe(seconds)
        metrics.RENDERED_PIXELS.labels(model.name).inc(pixels)
        model.measure(pixels, seconds)
        return images

    def _load(self, digest: str) -> LoadedModel | RenderFailed:
        try:
            return self._models.get(digest)
        except Exception as error:
            self._check_device(error)
            return _load_failure(digest, error)

    def _find_styles(self, specs: Sequence[RenderSpec], contexts: Contexts) -> Outcomes:
        with log_context(**merge(contexts)):
            return [self._styles_of(spec) for spec in specs]

    def _styles_of(self, spec: RenderSpec) -> Outcome:
        model = self._load(spec.model)
        if isinstance(model, RenderFailed):
            return model
        try:
            return model.renderer.styles(spec.latent)
        except Exception as error:
            self._check_device(error)
            return to_failure(error)

    def _check_device(self, error: Exception) -> None:
        """Raises DeviceLostError if the device has failed, not only the batch."""
        if isinstance(error, InputError) or _is_out_of_memory(error):
            return
        try:
            self._synchronize()
        except Exception:
            self.lost = DeviceLostError(f"{type(error).__name__}: {error}")
            raise self.lost from error


def to_failure(error: Exception) -> RenderFailed:
    """An exception as the client may see it. What is unexpected is logged."""
    if isinstance(error, InputError):
        return RenderFailed("invalid", error.message, error.field)
    if _is_out_of_memory(error):
        logger.warning("an image does not fit the memory: %s", error)
        return RenderFailed("memory", "the image does not fit the memory of the worker")
    logger.error("an image failed", exc_info=error)
    return RenderFailed("failed", f"the worker met an unexpected {type(error).__name__}; its log tells more")


def _load_failure(digest: str, error: Exception) -> RenderFailed:
    if _is_out_of_memory(error):
        logger.error("model %s does not fit the memory: %s", digest, error)
        return RenderFailed("memory", "the model does not fit the memory of the worker")
    unexpected = None if isinstance(error, InputError) else error
    logger.error("model %s cannot be loaded: %s", digest, error, exc_info=unexpected)
    return RenderFailed("unavailable", "the worker cannot load the model; its log tells why")  # a path may be secret


def _is_out_of_memory(error: Exception) -> bool:
    """MemoryError, or one of torch's: on the CPU they are plain RuntimeErrors."""
    named = (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in str(error)
        or "DefaultCPUAllocator" in str(error)
    )
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and named)
