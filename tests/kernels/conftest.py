"""Triton's interpreter, made to give the same bytes on every CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from tests.kernels.kernel_runs import ON_GPU


@pytest.fixture(scope="session", autouse=True)
def _exact_products() -> Iterator[None]:
    """Sums the products of a dot in fp64, which holds nearly every sum of products of fp16 numbers exactly.

    The interpreter leaves sums in fp32 to numpy's BLAS, whose order of summation depends on the CPU and the number of
    rows. A GPU's does not, and the tests of equal bytes are about that.
    """

    def create_dot(_: Any, a: Any, b: Any, sums: Any, *precision: Any) -> Any:
        exact = np.matmul(a.data, b.data, dtype=np.float64) + sums.data
        return TensorHandle(exact.astype(sums.data.dtype), sums.dtype.scalar)

    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield
