"""Synthesis in chunks: the same images and gradients as at once, with less memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.config import GeneratorConfig
from model.generator import Generator
from model.training.profiling.memory import MemoryTracker
from model.training.synthesis import TrainingSynthesis

CONFIG = GeneratorConfig(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=32, thickness=3)


def _generator() -> Generator:
    torch.manual_seed(0)
    return Generator(CONFIG)


def _styles(generator: Generator) -> torch.Tensor:
    return torch.randn(4, CONFIG.num_ws, CONFIG.w_dim, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("chunk_pixels", [512, pytest.param(128, marks=pytest.mark.slow), 4096 * 32])
def test_chunks_change_neither_images_nor_gradients(chunk_pixels: int) -> None:
    generator = _generator().double()
    results = []
    for chunk in (0, chunk_pixels):
        ws = _styles(generator).double().detach().requires_grad_()
        images = TrainingSynthesis(generator.synthesis, "fp32", chunk)(ws)
        parameters = list(generator.synthesis.parameters())
        results.append((images, *torch.autograd.grad(images.square().mean(), [ws, *parameters])))
    for at_once, in_chunks in zip(*results, strict=True):
        torch.testing.assert_close(in_chunks, at_once, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    "overrides", [{}, {"thickness": 1, "decoders": False}, {"fusion": "last"}, {"last_block": 8}], ids=str
)
def test_images_and_gradients_are_those_of_the_network(
    overrides: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    generator = Generator(replace(CONFIG, **overrides)).to(dtype)
    synthesis, parameters = generator.synthesis, dict(generator.synthesis.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("bias") and "affine" not in name:
                parameter.normal_()
        if dtype == torch.float64:  # in fp32 activations this large leave few digits to the others
            for name in ("blocks.1.fc0.bias", "blocks.1.to_line.bias", "refinements.0.fc1.bias"):
                parameters[name][0] = 300.0  # so that some activations are clamped
    ws = torch.randn(4, generator.config.num_ws, CONFIG.w_dim, dtype=dtype).requires_grad_()
    positions = torch.linspace(0.0, 1.0, CONFIG.resolution, dtype=torch.float64)
    weights = torch.randn(4, 3, CONFIG.resolution, CONFIG.resolution, dtype=dtype)
    results = []
    for images in (synthesis(ws, positions, positions), TrainingSynthesis(synthesis, "fp32", 0)(ws)):
        gradients = torch.autograd.grad((images * weights).sum(), [ws, *parameters.values()], allow_unused=True)
        results.append(dict(zip(["images", "ws", *parameters], [images, *gradients], strict=True)))
    for name, expected in results[0].items():
        if expected is None:  # line projections that fusion="last" does not use
            assert results[1][name] is None, name
            continue
        error = (results[1][name] - expected).norm() / expected.norm()
        assert error < tolerance, (name, error)


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.01), ("bf16", 0.05)])
def test_lower_precision_is_close_and_gives_fp32(precision: str, error: float) -> None:
    generator = _generator()
    ws = _styles(generator)
    exact = TrainingSynthesis(generator.synthesis, "fp32", 0)(ws)
    images = TrainingSynthesis(generator.synthesis, precision, 512)(ws)  # type: ignore[arg-type]
    assert images.dtype == torch.float32
    difference = (images - exact).square().mean().sqrt() / exact.std()
    assert 1e-6 < difference < error


@pytest.mark.slow
def test_chunks_bound_the_memory_of_images_and_of_their_derivative() -> None:
    generator = _generator()
    peaks: dict[str, list[int]] = {"images": [], "derivative": []}
    for chunk in (0, 256):
        synthesize, ws = TrainingSynthesis(generator.synthesis, "fp32", chunk), _styles(generator)
        with MemoryTracker() as memory:
            torch.autograd.backward(synthesize(ws).sum())
        peaks["images"].append(memory.peak)
        with MemoryTracker() as memory:
            torch.autograd.backward(synthesize.derivative(ws, torch.ones_like(ws), torch.ones(4, 3, 16, 16)))
        peaks["derivative"].append(memory.peak)
    for whole, in_chunks in peaks.values():
        assert in_chunks < whole / 1.7


def test_the_derivative_is_that_of_finite_differences() -> None:
    generator = _generator().double()
    ws = _styles(generator).double().detach()
    direction, weights = torch.randn_like(ws), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    synthesize = TrainingSynthesis(generator.synthesis, "fp32", 512)
    with torch.no_grad():
        derivative = synthesize.derivative(ws, direction, weights).item()
        sums = [(synthesize(ws + step * direction) * weights).sum().item() for step in (1e-7, -1e-7)]
    assert derivative == pytest.approx((sums[0] - sums[1]) / 2e-7, rel=2e-3)
