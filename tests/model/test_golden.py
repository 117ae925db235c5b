"""The generator computes what the original computes, from weights that went through the importer's naming."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import GeneratorConfig
from model.generator import Generator
from model.official.generator import convert_state_dict
from tests import golden_files
from tests.golden_files import Case

TOLERANCE = 1e-4
"""Bound of ‖a − b‖ / ‖b‖. An exact reimplementation in fp32 reaches about 1e-6."""

CASES = golden_files.all_cases()


@cache
def _generator(network: str) -> Generator:
    config, state = convert_state_dict(golden_files.load(network).state)
    generator = Generator(config)
    generator.load_state_dict(state)
    return generator.eval().requires_grad_(False)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("network", golden_files.NETWORKS)
def test_config_is_the_constructors_arguments(network: str) -> None:
    golden = golden_files.load(network)
    given = golden.config
    config = _generator(network).config
    assert config == GeneratorConfig(
        resolution=given["img_resolution"],
        z_dim=given["z_dim"],
        w_dim=given["w_dim"],
        classes=given["c_dim"],
        mapping_layers=given["mapping_kwargs"]["num_layers"],
        channel_base=given["channel_base"],
        channel_max=given["channel_max"],
        thickness=4 if "thickness4" in network else 8,
    )
    assert config.num_ws == golden.num_ws


@pytest.mark.parametrize(("network", "case"), CASES, ids=[case.name for _, case in CASES])
def test_styles(network: str, case: Case) -> None:
    assert relative_error(case.styles(_generator(network)), case.ws) < TOLERANCE


@pytest.mark.parametrize(("network", "case"), CASES, ids=[case.name for _, case in CASES])
def test_images(network: str, case: Case) -> None:
    generator = _generator(network)
    image = generator.synthesis(case.styles(generator), *case.positions())
    assert relative_error(image, case.image) < TOLERANCE
    if case.in_range:
        quantised = (image * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        assert np.abs(quantised.astype(int) - case.uint8.astype(int)).max() <= 1


def test_forward_draws_the_training_square() -> None:
    """The whole network in one call: z to picture at the training resolution."""
    (case,) = (c for c in golden_files.load("official_r32").cases if c.asked == {"seed": 2, "size": 32})
    z = torch.from_numpy(np.random.RandomState(2).randn(1, 64).astype(np.float32))
    assert relative_error(_generator("official_r32")(z), case.image) < TOLERANCE
