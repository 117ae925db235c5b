"""The models that a worker has loaded: the last used ones, within a limit of memory."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import RenderSpec
from service.models.catalog import Catalog
from service.runtime import worker_metrics as metrics

if TYPE_CHECKING:
    from kernels.accuracy import AccuracyReport

logger = logging.getLogger(__name__)

CPU_BYTES = 4 * 2**30
"""Default limit on a CPU. The paper's 512² network takes 0.4 GB with its line cache."""

MIN_PIXELS_FOR_RATE = 1 << 16
"""Smaller batches measure the speed badly: preparing the lines of a small image costs more than its pixels."""

EMA_DECAY = 0.8
"""Decay of the moving average of the speed, per batch."""


class RendererLike(Protocol):
    """What a worker needs of kernels.renderer.Renderer."""

    @property
    def backend(self) -> str:
        """Name of the backend."""

    @property
    def precision(self) -> "Sequence[AccuracyReport]":
        """Accuracy of each precision that was tried, the one in use last."""

    @property
    def arithmetic(self) -> str:
        """What decides the last bits of a pixel besides the network: precision, kernels and device."""

    @property
    def memory(self) -> int:
        """Bytes that it takes at most between two images: weights, and a GPU's line cache."""

    def close(self) -> None:
        """Frees the memory. Nothing can be rendered after that."""

    def render_batch(
        self, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        """The images [h, w, 3] of specs of this model; undefined pixels for those no longer ``wanted``."""

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        """The styles w+ [num_ws, w_dim] of a latent."""


Load = Callable[[Checkpoint], RendererLike]


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes:
        rate: in pixels per second, None before the first batch.
        measured: pixels of the largest batch that has determined the rate.
    """

    name: str
    renderer: RendererLike
    rate: float | None = None
    measured: int = 0

    def measure(self, pixels: int, seconds: float) -> None:
        """Updates the rate after a batch. While all have been small, the largest one counts alone."""
        rate = pixels / max(seconds, 1e-6)
        if self.rate is not None and min(pixels, self.measured) >= MIN_PIXELS_FOR_RATE:
            self.rate = EMA_DECAY * self.rate + (1 - EMA_DECAY) * rate
        elif pixels >= self.measured:
            self.rate = rate
        self.measured = max(self.measured, pixels)


class ModelCache:
    """Loads models when they are first used. Not thread-safe, but for ``digests`` and ``rates``.

    When all models together take more than ``limit`` bytes, the least recently used are unloaded. The one in use stays
    in any case. The size of a model is known only when it is loaded, so the limit is exceeded for that moment.
    """

    def __init__(self, catalog: Catalog, load: Load, limit: int) -> None:
        self._catalog = catalog
        self._load = load
        self._limit = limit
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self.digests: tuple[str, ...] = ()
        self.arithmetics: dict[str, str] = {}
        """The arithmetic of each model by digest, also of those that were evicted."""

    @property
    def rates(self) -> dict[str, float]:
        """Pixels per second of each loaded model that was measured."""
        models = {digest: self._loaded.get(digest) for digest in self.digests}
        return {digest: model.rate for digest, model in models.items() if model and model.rate is not None}

    def get(self, digest: str) -> LoadedModel:
        """The model of that digest. Raises InputError if there is none, or its file cannot be used."""
        if digest not in self._loaded:
            self._loaded[digest] = self._read(digest)
        self._loaded.move_to_end(digest)
        while len(self._loaded) > 1 and sum(model.renderer.memory for model in self._loaded.values()) > self._limit:
            self._evict(next(iter(self._loaded)), "the least recently used")
        self.digests = tuple(self._loaded)
        return self._loaded[digest]

    def evict_all_but(self, served: Collection[str]) -> None:
        """Unloads the models whose digests are not among ``served``."""
        for digest in [digest for digest in self._loaded if digest not in served]:
            self._evict(digest, "which is no longer served")
        self.digests = tuple(self._loaded)

    def _read(self, digest: str) -> LoadedModel:
        checkpoint = self._catalog.resolve(digest)
        logger.info("loading model %s, digest %s", checkpoint.name, digest)
        started = time.perf_counter()
        model = LoadedModel(checkpoint.name, self._load(checkpoint))
        seconds = time.perf_counter() - started
        self.arithmetics[digest] = model.renderer.arithmetic
        metrics.MODEL_LOAD_DURATION.observe(seconds)
        metrics.MODEL_LOADED.labels(model.name, digest).set(1)
        metrics.MODEL_MEMORY.labels(model.name, digest).set(model.renderer.memory)
        for labels, report in _precision(digest, model):
            metrics.MODEL_PRECISION.labels(*labels).set(report.psnr)
            metrics.MODEL_LEVELS.labels(*labels).set(report.levels)
        logger.info("loaded model %s for the %s backend in %.1f s", model.name, model.renderer.backend, seconds)
        return model

    def _evict(self, digest: str, reason: str) -> None:
        model = self._loaded.pop(digest)
        metrics.MODEL_LOADED.remove(model.name, digest)
        metrics.MODEL_MEMORY.remove(model.name, digest)
        for labels, _ in _precision(digest, model):
            metrics.MODEL_PRECISION.remove(*labels)
            metrics.MODEL_LEVELS.remove(*labels)
        model.renderer.close()
        logger.info("unloaded model %s, %s", model.name, reason)


def _precision(digest: str, model: LoadedModel) -> "Iterator[tuple[tuple[str, str, str, str], AccuracyReport]]":
    """Metric labels and report of each precision that was tried."""
    tried = model.renderer.precision
    for report in tried:
        used = "true" if report is tried[-1] else "false"
        yield (model.name, digest, report.arithmetic, used), report
