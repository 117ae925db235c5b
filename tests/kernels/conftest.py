"""Triton's interpreter, made faster and made to give the same bytes on every CPU."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import triton.language as tl
from triton.runtime import interpreter

from kernels.gpu.jit.lines import TILE
from tests.kernels.kernel_runs import ON_GPU


@pytest.fixture(scope="session", autouse=True)
def _exact_products() -> Iterator[None]:
    """Accumulates products in fp64, which holds nearly every sum of products of fp16 numbers exactly.

    The interpreter leaves sums in fp32 to numpy's BLAS, whose order of summation depends on the CPU and the number of
    rows. A GPU's does not, and the tests of equal bytes depend on it.
    """

    def create_dot(_: Any, a: Any, b: Any, acc: Any, *precision: Any) -> Any:
        exact = np.matmul(a.data, b.data, dtype=np.float64) + acc.data
        return interpreter.TensorHandle(exact.astype(acc.data.dtype), acc.dtype.scalar)

    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
        yield


@pytest.fixture(scope="session", autouse=True)
def _large_programs() -> Iterator[None]:
    """Gives a program as many rows as it may have. The interpreter's time is that of its operations, not of numbers."""
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setattr("kernels.gpu.styles.MODULATED_ROWS", 256)
            patch.setattr("kernels.gpu.styles.STYLE_ROWS", 256)
            patch.setattr("kernels.gpu.model.FOURIER_ROWS", TILE)
        yield


@pytest.fixture(scope="session", autouse=True)
def _language_patched_once() -> Iterator[None]:
    """Patches triton.language once, not in each call of a device function, which takes a third of the time."""
    if ON_GPU:
        yield
        return
    scope = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", lambda fn: interpreter._LangPatchScope())
        yield
    scope.restore()
