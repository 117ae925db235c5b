"""The models that a worker has loaded: those last used, as far as their memory goes."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.spec import RenderSpec
from service import metrics
from service.catalog import Catalog

if TYPE_CHECKING:
    from kernels.precision import Agreement

logger = logging.getLogger(__name__)

CPU_BYTES = 4 * 2**30
"""Limit on a CPU, unless set otherwise. The paper's 512² network takes 0.4 GB with its line cache."""


class RendererLike(Protocol):
    """What a worker needs of kernels.renderer.Renderer."""

    @property
    def backend(self) -> str:
        """Name of the backend that draws."""

    @property
    def precision(self) -> "Sequence[Agreement]":
        """What was measured of each arithmetic that was tried, the one in use last."""

    @property
    def memory(self) -> int:
        """Bytes that it takes at most between two pictures, weights and lines that are kept."""

    def close(self) -> None:
        """Gives the memory back. Nothing can be drawn after that."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        """The pictures [h, w, 3] of specs that all name this model."""


Load = Callable[[Checkpoint], RendererLike]


@dataclass(frozen=True)
class LoadedModel:
    name: str
    renderer: RendererLike


class LoadedModels:
    """Loads models when they are first asked for. For one thread; only ``digests`` may be read by others.

    Args:
        catalog: where models are found by their digest.
        load: makes a renderer of a checkpoint.
        limit: bytes of memory of all together, beyond which the longest unused are unloaded; the one that is asked for
            stays in any case. What a model takes is known once it is loaded, so that for this moment it comes on top.

    Attributes:
        digests: the models that are loaded, the last used last.
    """

    def __init__(self, catalog: Catalog, load: Load, limit: int) -> None:
        self._catalog = catalog
        self._load = load
        self._limit = limit
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self.digests: tuple[str, ...] = ()

    def get(self, digest: str) -> LoadedModel:
        """The model of that digest.

        Raises:
            InputError: there is none, or its file cannot be used.
        """
        if digest not in self._loaded:
            self._loaded[digest] = self._read(digest)
        self._loaded.move_to_end(digest)
        while len(self._loaded) > 1 and sum(model.renderer.memory for model in self._loaded.values()) > self._limit:
            self._forget(next(iter(self._loaded)), "the longest unused")
        self.digests = tuple(self._loaded)
        return self._loaded[digest]

    def forget_all_but(self, served: Collection[str]) -> None:
        """Unloads the models whose digests are not among those that are served."""
        for digest in [digest for digest in self._loaded if digest not in served]:
            self._forget(digest, "which is served no more")
        self.digests = tuple(self._loaded)

    def _read(self, digest: str) -> LoadedModel:
        checkpoint = self._catalog.resolve(digest)
        logger.info("loading model %s, digest %s", checkpoint.name, digest)
        started = time.perf_counter()
        model = LoadedModel(checkpoint.name, self._load(checkpoint))
        seconds = time.perf_counter() - started
        metrics.MODEL_LOAD_DURATION.observe(seconds)
        metrics.MODEL_LOADED.labels(model.name, digest).set(1)
        metrics.MODEL_MEMORY.labels(model.name, digest).set(model.renderer.memory)
        for labels, agreement in _precision(digest, model):
            metrics.MODEL_PRECISION.labels(*labels).set(agreement.psnr)
            metrics.MODEL_LEVELS.labels(*labels).set(agreement.levels)
        logger.info("loaded model %s for the %s backend in %.1f s", model.name, model.renderer.backend, seconds)
        return model

    def _forget(self, digest: str, reason: str) -> None:
        model = self._loaded.pop(digest)
        metrics.MODEL_LOADED.remove(model.name, digest)
        metrics.MODEL_MEMORY.remove(model.name, digest)
        for labels, _ in _precision(digest, model):
            metrics.MODEL_PRECISION.remove(*labels)
            metrics.MODEL_LEVELS.remove(*labels)
        model.renderer.close()
        logger.info("unloaded model %s, %s", model.name, reason)


def _precision(digest: str, model: LoadedModel) -> "Iterator[tuple[tuple[str, str, str, str], Agreement]]":
    """The labels and figures of each arithmetic that was tried."""
    tried = model.renderer.precision
    for agreement in tried:
        used = "true" if agreement is tried[-1] else "false"
        yield (model.name, digest, agreement.arithmetic, used), agreement
