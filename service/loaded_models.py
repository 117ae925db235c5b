"""The models that a worker has loaded: the few last used."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
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

MODELS_KEPT = 4
"""Loaded models at most. The paper's 512² network takes about 125 MB, and as much again or more for its line cache."""


class RendererLike(Protocol):
    """What a worker needs of kernels.renderer.Renderer."""

    @property
    def backend(self) -> str:
        """Name of the backend that draws."""

    @property
    def precision(self) -> "Sequence[Agreement]":
        """What was measured of each arithmetic that was tried, the one in use last."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        """The pictures [h, w, 3] of specs that all name this model."""


Load = Callable[[Checkpoint], RendererLike]


@dataclass(frozen=True)
class LoadedModel:
    name: str
    renderer: RendererLike


class LoadedModels:
    """Loads models when they are first asked for. For one thread; only ``digests`` may be read by others.

    Attributes:
        digests: the models that are loaded, the last used last.
    """

    def __init__(self, catalog: Catalog, load: Load) -> None:
        self._catalog = catalog
        self._load = load
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self.digests: tuple[str, ...] = ()

    def get(self, digest: str) -> LoadedModel:
        """The model of that digest.

        Raises:
            InputError: there is none, or its file cannot be used.
        """
        if digest not in self._loaded:
            while len(self._loaded) >= MODELS_KEPT:
                self._forget_oldest()
            self._loaded[digest] = self._read(digest)
        self._loaded.move_to_end(digest)
        self.digests = tuple(self._loaded)
        return self._loaded[digest]

    def _read(self, digest: str) -> LoadedModel:
        checkpoint = self._catalog.resolve(digest)
        logger.info("loading model %s, digest %s", checkpoint.name, digest)
        started = time.perf_counter()
        model = LoadedModel(checkpoint.name, self._load(checkpoint))
        seconds = time.perf_counter() - started
        metrics.MODEL_LOAD_DURATION.observe(seconds)
        metrics.MODEL_LOADED.labels(model.name, digest).set(1)
        for labels, agreement in _precision(digest, model):
            metrics.MODEL_PRECISION.labels(*labels).set(agreement.psnr)
            metrics.MODEL_LEVELS.labels(*labels).set(agreement.levels)
        logger.info("loaded model %s for the %s backend in %.1f s", model.name, model.renderer.backend, seconds)
        return model

    def _forget_oldest(self) -> None:
        digest, model = self._loaded.popitem(last=False)
        metrics.MODEL_LOADED.remove(model.name, digest)
        for labels, _ in _precision(digest, model):
            metrics.MODEL_PRECISION.remove(*labels)
            metrics.MODEL_LEVELS.remove(*labels)
        logger.info("unloaded model %s, the longest unused", model.name)


def _precision(digest: str, model: LoadedModel) -> "Iterator[tuple[tuple[str, str, str, str], Agreement]]":
    """The labels and figures of each arithmetic that was tried."""
    tried = model.renderer.precision
    for agreement in tried:
        used = "true" if agreement is tried[-1] else "false"
        yield (model.name, digest, agreement.arithmetic, used), agreement
