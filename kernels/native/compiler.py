"""Compiles the C++ kernels with the machine's compiler when they are first used, and keeps the library in a cache.

The name of a library has the digest of its sources, flags and compiler, so that a cached one is never out of date. It
appears under that name when it is complete. Several processes that compile at once replace it with the same.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernels.native.targets import FLAGS, SOURCE, Target

logger = logging.getLogger(__name__)

READY = Path(__file__).parent / "ready"
"""Libraries that were compiled when the package was installed, as in the container images. They need no compiler."""

COMPILERS = "c++", "g++", "clang++"

TIMEOUT = 300.0
"""Seconds; it takes 2 to 3 on an idle machine."""


class CompileError(Exception):
    """The kernels cannot be compiled; the message says why and what to do."""


def find_library(target: Target) -> Path:
    """The library of a target, compiled if there is none yet. Raises CompileError."""
    ready = READY / target.file_name
    if ready.exists():
        return ready
    compiler = find_compiler()
    version = _run([compiler, "--version"])
    digest = hashlib.sha256(f"{target.digest}\n{version}".encode()).hexdigest()
    path = _cache() / f"{target.name}-{digest}.so"
    if not path.exists():
        logger.info("compiling the %s kernels with %s, once for this machine", target.name, compiler)
        started = time.monotonic()
        compile_library(compiler, target, path)
        logger.info("compiled the %s kernels in %.1f s", target.name, time.monotonic() - started)
    return path


def compile_library(compiler: str, target: Target, path: Path, flags: Sequence[str] = ()) -> None:
    """Compile a target's library. Raises CompileError."""
    sources = [str(SOURCE / name) for name in target.sources]
    with _new_file(path) as new:
        _run([compiler, *FLAGS, *target.flags, *flags, "-o", str(new), *sources])


def find_compiler() -> str:
    """Path of the C++ compiler. Raises CompileError."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else COMPILERS:
        if path := shutil.which(name):
            return path
    missing = f"CXX={wanted} is not a program" if wanted else "there is no C++ compiler"
    raise CompileError(f"{missing}; install g++ 12 or later (Debian and Ubuntu: apt install g++), or set CXX")


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        lines = (line for line in done.stderr.splitlines() if "error" in line)
        raise CompileError(f"{command[0]} failed: {next(lines, done.stderr[-200:].strip())}")
    return done.stdout


def _cache() -> Path:
    """The cache folder, which no other user may write to."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "creps" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError for a user without a home folder
        raise CompileError(f"the cache folder cannot be made: {error}; set XDG_CACHE_HOME") from None
    return folder


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` that replaces it at the end of the block, unless that fails."""
    try:
        handle, name = tempfile.mkstemp(suffix=".so", prefix=".", dir=path.parent)
    except OSError as error:
        raise CompileError(f"{path.parent} cannot be written to: {error}; set XDG_CACHE_HOME") from None
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
