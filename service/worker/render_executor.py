"""Rendering in a worker: one thread, the models that it has loaded, and what can go wrong with either."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.spec import RenderSpec
from service import metrics
from service.catalog import Catalog
from service.loaded_models import Load, LoadedModels
from service.logs import log_context, merge
from service.queue import RenderFailed

logger = logging.getLogger(__name__)

HUNG_SECONDS, HUNG_RATE = 600.0, 10_000.0
"""A batch that has taken longer than so many seconds, and a second for each so many pixels, hangs: the paper's 512²
network draws 334,000 pixels a second on two cores (BENCHMARKS.md), and no model takes minutes to load and compile."""

TELLING_PIXELS = 1 << 16
"""A batch of fewer pixels tells little of a model's speed: the lines of small pictures cost more than their pixels."""

_MEMORY = 0.8
"""Part of the speed told that a new measurement leaves as it was."""

Picture = NDArray[np.uint8]


class Rendering:
    """Renders batches of one model each.

    Args:
        catalog: where models are found by their digest.
        load: makes a renderer of a checkpoint.
        model_bytes: memory that loaded models may take (:class:`LoadedModels`).

    Attributes:
        rates: pixels a second of each model that is loaded, as last measured.
    """

    def __init__(self, catalog: Catalog, load: Load, model_bytes: int) -> None:
        self._models = LoadedModels(catalog, load, model_bytes)
        self._overdue = math.inf
        self._rates: dict[str, float] = {}
        # One thread renders: the renderer itself uses all of the device.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")

    @property
    def models(self) -> tuple[str, ...]:
        """Digests of the models that are loaded, the last used last."""
        return self._models.digests

    @property
    def rates(self) -> dict[str, float]:
        return {digest: self._rates[digest] for digest in self.models if digest in self._rates}

    async def render(
        self, specs: Sequence[RenderSpec], contexts: Sequence[Mapping[str, str]]
    ) -> Sequence[Picture | RenderFailed]:
        """The pictures [h, w, 3] of specs that all name one model, or why there is none.

        Args:
            contexts: for each spec, what log messages about it say.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._render_in_time, specs, contexts)

    async def unload_all_but(self, served: Set[str]) -> None:
        """Unloads the models that are served no more, once what is being rendered is done."""
        if not served >= set(self.models):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._models.forget_all_but, served)

    @property
    def hangs(self) -> bool:
        """Whether the batch that is being rendered takes longer than any should. May be asked by any thread."""
        return time.monotonic() > self._overdue

    def shutdown(self) -> None:
        """Waits for what is being rendered."""
        self._thread.shutdown()

    def _render_in_time(
        self, specs: Sequence[RenderSpec], contexts: Sequence[Mapping[str, str]]
    ) -> Sequence[Picture | RenderFailed]:
        pixels = sum(spec.viewport.pixels for spec in specs)
        self._overdue = time.monotonic() + HUNG_SECONDS + pixels / HUNG_RATE
        try:
            return self._render(specs, contexts)
        finally:
            self._overdue = math.inf

    def _render(
        self, specs: Sequence[RenderSpec], contexts: Sequence[Mapping[str, str]]
    ) -> Sequence[Picture | RenderFailed]:
        with log_context(**merge(contexts)):
            pictures = self._render_together(specs)
        if pictures is None:  # whichever is to blame shall fail alone
            return [self._render([spec], [context])[0] for spec, context in zip(specs, contexts, strict=True)]
        return pictures

    def _render_together(self, specs: Sequence[RenderSpec]) -> Sequence[Picture | RenderFailed] | None:
        """None where several failed together."""
        try:
            model = self._models.get(specs[0].model)
        except Exception as error:
            return [_load_failure(specs[0].model, error)] * len(specs)
        started = time.perf_counter()
        try:
            pictures = model.renderer.render_batch(specs)
        except Exception as error:
            return [failure(error)] if len(specs) == 1 else None
        seconds = time.perf_counter() - started
        pixels = sum(spec.viewport.pixels for spec in specs)
        metrics.RENDER_DURATION.labels(model.name, model.renderer.backend).observe(seconds)
        metrics.RENDERED_PIXELS.labels(model.name).inc(pixels)
        self._measure(specs[0].model, pixels, seconds)
        return pictures

    def _measure(self, digest: str, pixels: int, seconds: float) -> None:
        rate = pixels / max(seconds, 1e-6)
        if digest not in self._rates:
            self._rates[digest] = rate
        elif pixels >= TELLING_PIXELS:
            self._rates[digest] = _MEMORY * self._rates[digest] + (1 - _MEMORY) * rate


def failure(error: Exception) -> RenderFailed:
    """What whoever asked is told of an exception."""
    if isinstance(error, InputError):
        return RenderFailed("invalid", error.message, error.field)
    if _is_out_of_memory(error):
        logger.warning("a picture does not fit the memory: %s", error)
        return RenderFailed("memory", "the picture does not fit the memory of the worker")
    logger.error("a picture failed", exc_info=error)
    return RenderFailed("failed", f"the worker met an unexpected {type(error).__name__}; its log tells more")


def _load_failure(digest: str, error: Exception) -> RenderFailed:
    if _is_out_of_memory(error):
        logger.error("model %s does not fit the memory: %s", digest, error)
        return RenderFailed("memory", "the model does not fit the memory of the worker")
    unexpected = None if isinstance(error, InputError) else error
    logger.error("model %s cannot be loaded: %s", digest, error, exc_info=unexpected)
    return RenderFailed("unavailable", "the worker cannot load the model; its log tells why")  # a path may be secret


def _is_out_of_memory(error: Exception) -> bool:
    """Also torch's errors, of which only that of a GPU has a class of its own."""
    named = (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in str(error)
        or "DefaultCPUAllocator" in str(error)
    )
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and named)
