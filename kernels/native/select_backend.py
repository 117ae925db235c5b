"""Selects a CPU's backend and precision: the native kernels for its matrix or vector units, or torch."""

import logging
from collections.abc import Iterator

from kernels.accuracy import AccuracyReport, make_probes, measure
from kernels.cpu import CpuBackend
from kernels.native.backend import NativeBackend
from kernels.native.library import load_libraries
from model.generator import Generator

logger = logging.getLogger(__name__)


def select_backend(
    name: str, generator: Generator, threads: int | None
) -> tuple[NativeBackend | CpuBackend, tuple[AccuracyReport, ...]]:
    """The fastest backend that is accurate enough, and the reports of all that were tried, the one in use last.

    fp32 is used however accurate it is: nothing on a CPU is both faster than the reference and more accurate.

    Args:
        name: of the checkpoint, for the log.
    """
    probes = make_probes(generator)
    tried: list[AccuracyReport] = []
    for backend in _candidates(generator, threads):
        tried.append(measure(backend.precision, backend.colours, probes))
        logger.info("%s, %s (%s)", name, tried[-1], backend.arithmetic)
        if tried[-1].passes or backend.precision == "fp32":
            return backend, tuple(tried)
        backend.close()
    raise AssertionError("the last candidate computes in fp32")


def _candidates(generator: Generator, threads: int | None) -> Iterator[NativeBackend | CpuBackend]:
    for library in load_libraries():
        yield NativeBackend(generator, library, threads)
    yield CpuBackend(generator, threads)
