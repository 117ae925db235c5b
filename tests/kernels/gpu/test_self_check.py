"""The check of images as they are served, and what is used when kernels are wrong or cannot be compiled."""

import subprocess
from typing import Any

import pytest
import torch
from triton.runtime.errors import OutOfResources, PTXASError

from kernels.gpu import select_precision as module
from kernels.gpu.jit.pixels import PROGRAM_FIELDS
from kernels.gpu.model import PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.gpu.select_precision import select_precision
from kernels.gpu.self_check import ImageCheck, check_image
from model.checkpoint import Checkpoint
from model.errors import InputError
from tests.kernels.kernel_runs import DEVICE, PARTS, pack
from tests.kernels.networks import TINY, random_checkpoint, random_network

SIDE = 32
"""8 tiles for 2 programs."""

GOOD, BAD = ImageCheck(512, 1, 0, 0), ImageCheck(512, 0, 1, 0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)


def check(change: Any, monkeypatch: pytest.MonkeyPatch) -> ImageCheck:
    """The check of kernels whose quantised pixels ``change`` spoils."""
    generator = random_network(TINY, frequencies=0.3).to(DEVICE)
    render_pixels = PackedModel.render_pixels

    def spoilt(self: PackedModel, tasks: Any, programs: Any, workspace: Any, **options: Any) -> None:
        render_pixels(self, tasks, change(programs), workspace, **options)

    monkeypatch.setattr(PackedModel, "render_pixels", spoilt)
    network = pack(generator, 1)
    network.programs = 2  # so that each renders several tiles
    return check_image(TritonBackend(network), generator, SIDE)


def test_good_images_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(lambda programs: programs, monkeypatch)
    assert found.passes
    assert found == ImageCheck(SIDE, found.levels, 0, 0)


@pytest.mark.slow
def test_a_program_that_renders_only_its_first_tile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_only(programs: torch.Tensor) -> torch.Tensor:
        assert len(programs) < SIDE * SIDE // 128
        spoilt = programs.clone().view(-1, PROGRAM_FIELDS)
        spoilt[:, 2] = 10_000  # the step to the next tile
        return spoilt

    for _ in range(2):  # in memory that may hold the image of a good one
        with monkeypatch.context() as good:
            assert check(lambda programs: programs, good).passes
        with monkeypatch.context() as spoiling:
            found = check(first_only, spoiling)
        assert not found.passes
        assert found.levels > 1


@pytest.mark.parametrize("spoilt", [BAD, ImageCheck(512, 2, 0, 0), ImageCheck(512, 0, 0, 3)])
def test_what_does_not_pass(spoilt: ImageCheck) -> None:
    assert GOOD.passes
    assert not spoilt.passes


class TestSelection:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CHECKED", ("cuda", "cpu"))
        monkeypatch.setattr(TritonBackend, "warm_up", lambda self: None)
        monkeypatch.setattr("kernels.accuracy.SIDE", 8)
        monkeypatch.setattr("kernels.accuracy.LATENTS", 1)

    @pytest.mark.skipif(len(PARTS) == 1, reason="the GPU has no second arithmetic")
    def test_after_a_bad_image_the_next_arithmetic_is_used(
        self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checks = iter([BAD, GOOD])
        monkeypatch.setattr(module, "check_image", lambda backend, generator: next(checks))
        backend, tried = select_precision(checkpoint, DEVICE, fall_back=False)
        assert [report.arithmetic for report in tried] == ["fp16", "fp16×3"]
        assert backend.name == "triton"

    @pytest.mark.parametrize(
        "error",
        [
            OutOfResources(240_000, 232_448, "shared memory"),
            PTXASError("internal error"),
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
            subprocess.CalledProcessError(1, ["gcc"]),
            PermissionError("/.triton"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_kernels_that_cannot_run_are_passed_over(
        self,
        checkpoint: Checkpoint,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise error

        monkeypatch.setattr(PackedModel, "compute_lines", fail)
        backend, tried = select_precision(checkpoint, DEVICE, fall_back=True)
        assert backend.name == "reference"
        assert [report.arithmetic for report in tried] == ["fp32"]
        assert f"slow reference backend: fp16: {type(error).__name__}: " in caplog.text
        with pytest.raises(InputError, match=f"backend: .*fp16: {type(error).__name__}"):
            select_precision(checkpoint, DEVICE, fall_back=False)

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        ],
    )
    def test_a_full_or_failed_device_is_an_error(
        self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise error

        monkeypatch.setattr(PackedModel, "compute_lines", fail)
        with pytest.raises(type(error)):
            select_precision(checkpoint, DEVICE, fall_back=True)
