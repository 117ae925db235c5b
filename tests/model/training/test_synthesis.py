"""Synthesis in chunks: the same pictures and gradients as at once, for less memory."""

import pytest
import torch

from model.config import GeneratorConfig
from model.generator import Generator
from model.training.rehearsal import LiveMemory
from model.training.synthesis import TrainingSynthesis

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=32, thickness=3)


def _generator() -> Generator:
    torch.manual_seed(0)
    return Generator(CONFIG)


def _styles(generator: Generator) -> torch.Tensor:
    return torch.randn(4, CONFIG.num_ws, CONFIG.w_dim, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("chunk_pixels", [128, 512, 4096 * 32])
def test_chunks_change_neither_pictures_nor_gradients(chunk_pixels: int) -> None:
    generator = _generator().double()
    results = []
    for chunk in (0, chunk_pixels):
        ws = _styles(generator).double().detach().requires_grad_()
        images = TrainingSynthesis(generator.synthesis, "fp32", chunk)(ws)
        parameters = list(generator.synthesis.parameters())
        results.append((images, *torch.autograd.grad(images.square().mean(), [ws, *parameters])))
    for at_once, in_chunks in zip(*results, strict=True):
        torch.testing.assert_close(in_chunks, at_once, rtol=1e-9, atol=1e-12)


def test_they_are_the_networks_own_pictures() -> None:
    generator = _generator()
    z = torch.randn(4, CONFIG.z_dim)
    ws = generator.mapping.truncate(generator.mapping(z), CONFIG.num_ws)
    torch.testing.assert_close(TrainingSynthesis(generator.synthesis, "fp32", 512)(ws), generator(z))


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.01), ("bf16", 0.05)])
def test_lower_precision_is_close_and_gives_fp32(precision: str, error: float) -> None:
    generator = _generator()
    ws = _styles(generator)
    exact = TrainingSynthesis(generator.synthesis, "fp32", 0)(ws)
    images = TrainingSynthesis(generator.synthesis, precision, 512)(ws)  # type: ignore[arg-type]
    assert images.dtype == torch.float32
    difference = (images - exact).square().mean().sqrt() / exact.std()
    assert 1e-6 < difference < error


def test_chunks_bound_the_memory_of_pictures_and_of_their_derivative() -> None:
    generator = _generator()
    peaks: dict[str, list[int]] = {"pictures": [], "derivative": []}
    for chunk in (0, 512):
        synthesize, ws = TrainingSynthesis(generator.synthesis, "fp32", chunk), _styles(generator)
        with LiveMemory() as memory:
            torch.autograd.backward(synthesize(ws).sum())
        peaks["pictures"].append(memory.peak)
        with LiveMemory() as memory:
            torch.autograd.backward(synthesize.derivative(ws, torch.ones_like(ws), torch.ones(4, 3, 32, 32)))
        peaks["derivative"].append(memory.peak)
    for whole, in_chunks in peaks.values():
        assert in_chunks < whole / 4


def test_the_derivative_is_that_of_finite_differences() -> None:
    generator = _generator().double()
    ws = _styles(generator).double().detach()
    direction, weights = torch.randn_like(ws), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    synthesize = TrainingSynthesis(generator.synthesis, "fp32", 512)
    with torch.no_grad():
        derivative = synthesize.derivative(ws, direction, weights).item()
        sums = [(synthesize(ws + step * direction) * weights).sum().item() for step in (1e-7, -1e-7)]
    assert derivative == pytest.approx((sums[0] - sums[1]) / 2e-7, rel=2e-3)
