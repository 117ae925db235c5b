"""The arithmetic that a checkpoint is drawn in follows from how precise each one is."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.accuracy import SIDE, AccuracyReport, make_probes, measure
from kernels.gpu.launch_config import LAUNCH_CONFIGS, get_launch_configs
from kernels.gpu.model import ARITHMETIC
from kernels.gpu.select_precision import select_precision
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.errors import InputError
from model.generator import Generator
from model.latents.latent import Latent
from tests.kernels.kernel_runs import DEVICE, PARTS
from tests.kernels.networks import TINY, contrasty, random_network

Positions = NDArray[np.float64]

OVERFLOWS = "ignore:overflow", "ignore:invalid value"
"""What numpy says where a GPU says nothing."""


@pytest.fixture(scope="module")
def generator() -> Generator:
    return random_network(TINY).to(DEVICE)


def save(folder: Path, generator: Generator) -> Checkpoint:
    return save_checkpoint(folder / "network.safetensors", generator)


def hopeless() -> Generator:
    """Activations beyond what fp16 holds, though its colours are as before."""
    generator = random_network(TINY)
    first, second = generator.synthesis.decoders[0].layers[:2]  # type: ignore[index]
    for parameter, factor in ((first.weight, 1e7), (first.bias, 1e7), (second.weight, 1e-7)):
        parameter.mul_(factor)
    return generator


class TestMeasure:
    def draw(self, generator: Generator, change: float = 0.0) -> AccuracyReport:
        colours = iter([probe.colours for probe in make_probes(generator)])

        def draw(latent: Latent, rows: Positions, columns: Positions) -> Tensor:
            assert rows.shape == columns.shape == (SIDE,)
            return next(colours) + change

        return measure("fp16", draw, make_probes(generator))

    def test_nothing_differs_from_itself(self, generator: Generator) -> None:
        agreement = self.draw(generator)
        assert (agreement.levels, agreement.differing) == (0, 0.0)
        assert agreement.psnr > 200
        assert agreement.passes

    def test_half_a_level(self, generator: Generator) -> None:
        agreement = self.draw(generator, 0.5 / 127.5)
        assert agreement.levels == 1
        assert 0.3 < agreement.differing < 0.55
        # 10·log10(2² · 255²/1²) = 54.2, and a little more where colours are cut at ±1
        assert 54.1 < agreement.psnr < 55.5
        assert not agreement.passes

    def test_two_levels(self, generator: Generator) -> None:
        assert self.draw(generator, 2 / 127.5).levels == 2

    def test_what_is_not_finite(self, generator: Generator) -> None:
        agreement = self.draw(generator, float("nan"))
        assert agreement.psnr == 0
        assert not agreement.passes

    def test_probes_are_several_images(self, generator: Generator) -> None:
        probes = make_probes(generator)
        assert sum(probe.colours.shape[0] * probe.colours.shape[1] for probe in probes) == 4096
        assert all(probe.colours.dtype == torch.float64 for probe in probes)
        assert len({probe.latent for probe in probes}) == 4


class TestChoice:
    def test_a_tame_network_is_drawn_in_fp16(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            renderer = Renderer(save(tmp_path, random_network(TINY, frequencies=0.3)), str(DEVICE), "triton")
        assert renderer.backend == "triton"
        (agreement,) = renderer.precision
        assert agreement.arithmetic == "fp16"
        assert agreement.levels <= 1
        assert agreement.psnr >= 60
        assert f"network, {agreement}" in caplog.text

    @pytest.mark.skipif(len(PARTS) == 1, reason="the GPU has no plan for it")
    @pytest.mark.slow
    def test_a_contrasty_one_needs_more(self, tmp_path: Path) -> None:
        backend, tried = select_precision(save(tmp_path, contrasty(30)), DEVICE, fall_back=True)
        assert [agreement.arithmetic for agreement in tried] == ["fp16", "fp16×3"]
        assert [agreement.passes for agreement in tried] == [False, True]
        assert backend.name == "triton"

    @pytest.mark.filterwarnings(*OVERFLOWS)
    @pytest.mark.slow
    def test_a_hopeless_one_is_drawn_by_the_network_itself(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend, tried = select_precision(save(tmp_path, hopeless()), DEVICE, fall_back=True)
        assert [agreement.arithmetic for agreement in tried] == [*(ARITHMETIC[parts] for parts in PARTS), "fp32"]
        assert tried[-1].passes
        assert backend.name == "reference"
        assert "rendered by the slow reference" in caplog.text

    @pytest.mark.filterwarnings(*OVERFLOWS)
    @pytest.mark.slow
    def test_unless_triton_was_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"backend: .* network .*fp16: at most \d+ of 255 levels"):
            Renderer(save(tmp_path, hopeless()), str(DEVICE), "triton")


def test_unknown_devices_are_named() -> None:
    with pytest.raises(InputError, match=r"compute capability 7.5"):
        get_launch_configs(7, 5)


def test_small_gpus_have_no_near_fp32() -> None:
    assert len(LAUNCH_CONFIGS[89]) == 1
    assert len(LAUNCH_CONFIGS[90]) == 2
