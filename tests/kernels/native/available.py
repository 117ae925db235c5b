"""Whether the native kernels can be compiled here."""

import pytest

from kernels.native.compiler import CompileError, find_compiler
from kernels.native.library import supported_targets


def _can_compile() -> bool:
    try:
        find_compiler()
    except CompileError:
        return False
    return bool(supported_targets())  # CREPS_NATIVE=0 leaves none


CAN_COMPILE = _can_compile()

NEEDS_COMPILER = pytest.mark.skipif(not CAN_COMPILE, reason="no C++ compiler, or CREPS_NATIVE=0")
