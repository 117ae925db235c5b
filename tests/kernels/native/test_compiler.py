"""Kernels are compiled once, appear whole, and are done without where there is no compiler."""

import ctypes
import logging
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kernels.native import compiler, library, targets
from kernels.native.compiler import CompileError, compile_library, find_compiler, find_library
from kernels.native.library import load_libraries
from kernels.native.targets import TARGETS, Target
from kernels.renderer import Renderer
from model.errors import InputError
from tests.kernels.native.available import NEEDS_COMPILER
from tests.kernels.networks import random_checkpoint

pytestmark = NEEDS_COMPILER

SMALL = Target("small", (), ("pack.cpp",))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def _no_library_yet() -> Iterator[None]:
    load_libraries.cache_clear()
    library.load_library.cache_clear()
    yield
    load_libraries.cache_clear()


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/creps/native").glob("*"))


def test_compiles_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kernels.native"):
        path = find_library(SMALL)
        assert find_library(SMALL) == path
    assert cached(tmp_path) == [path]
    assert [message.split()[0] for message in caplog.messages] == ["compiling", "compiled"]


def test_other_flags_are_another_library() -> None:
    assert find_library(SMALL) != find_library(replace(SMALL, flags=("-O1",)))


def test_other_sources_are_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SMALL.digest
    copy = tmp_path / "source"
    copy.mkdir()
    for path in targets.SOURCE.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(targets, "SOURCE", copy)
    assert SMALL.digest == before
    (copy / "vectors.h").write_text("// empty")
    assert SMALL.digest != before


def test_several_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(find_library, [SMALL] * 4))
    assert cached(tmp_path) == sorted(paths)
    ctypes.CDLL(str(paths.pop())).lanes()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels of other architectures need another compiler")
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_compiles(name: str) -> None:
    """Also those whose instructions this CPU does not have, without a warning."""
    target = TARGETS[name]
    # gcc 12 warns of its own intrinsics.
    strict = "-Wall", "-Wextra", "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Werror"
    assert find_library(replace(target, flags=(*target.flags, *strict))).exists()


def test_a_library_that_came_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without a compiler."""
    monkeypatch.setattr(compiler, "READY", tmp_path)
    compile_library(find_compiler(), SMALL, tmp_path / SMALL.file_name)
    monkeypatch.setenv("PATH", "")
    assert find_library(SMALL) == tmp_path / SMALL.file_name
    with pytest.raises(CompileError):
        find_library(replace(SMALL, flags=("-O1",)))


def test_what_cannot_be_compiled_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="error"):
        find_library(replace(SMALL, flags=("--no-such-flag",)))
    assert not cached(tmp_path)


@pytest.mark.usefixtures("_no_library_yet")
class TestWithout:
    """Images are rendered by torch."""

    def test_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(library, "supported_targets", lambda: ["amx", "avx512"])
        checkpoint = random_checkpoint(tmp_path)
        assert [Renderer(checkpoint, "cpu").backend for _ in range(2)] == ["cpu", "cpu"]
        (message,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert "apt install g++" in message
        with pytest.raises(InputError, match="native"):
            Renderer(checkpoint, "cpu", "native")

    def test_wish(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setenv("CREPS_NATIVE", "0")
        renderer = Renderer(random_checkpoint(tmp_path), "cpu")
        assert renderer.backend == "cpu"
        assert [report.arithmetic for report in renderer.precision] == ["fp32"]
        assert not caplog.records

    def test_writable_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert Renderer(random_checkpoint(tmp_path), "cpu").backend == "cpu"
