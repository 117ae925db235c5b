"""Styles of the GPU kernels, compared with model/latents/styles.py."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.gpu.line_inputs import LatentInput, LineInputs, is_composed, pack_line_inputs
from kernels.gpu.model import PackedModel
from model.config import GeneratorConfig
from model.latents.latent import Edit, Latent, LayerStyles, Weighted, pack_floats
from model.latents.styles import layer_styles
from tests.kernels.kernel_runs import DEVICE, pack, relative_error
from tests.kernels.networks import VARIANTS, random_network


def latents_of(config: GeneratorConfig) -> list[Latent]:
    """One of each kind."""
    numbers = np.random.default_rng(0)
    label = 2 if config.classes else None
    one, other = Latent(seed=3, class_index=label), Latent(seed=2**32 - 1, class_index=0 if config.classes else None)
    return [
        one,
        Latent(seed=4, class_index=label, psi=0.6),
        Latent(z=pack_floats(numbers.normal(size=config.z_dim)), class_index=label, psi=-1.5, cutoff=2),
        Latent(seed=3, class_index=label, psi=0.0),
        Latent(w=pack_floats(numbers.normal(size=config.w_dim))),
        Latent(w=pack_floats(numbers.normal(size=config.num_ws * config.w_dim)), psi=0.5, cutoff=3),
        Latent(mix=(Weighted(one, 2.0), Weighted(other, 1.0)), psi=0.7),
        Latent(seed=5, class_index=label, styles=(LayerStyles((1, 3), other),)),
        Latent(seed=5, class_index=label, edits=(Edit(pack_floats(numbers.normal(size=config.w_dim)), 0.5, (2,)),)),
    ]


def compute(network: PackedModel, latents: Sequence[Latent]) -> tuple[Tensor, list[Tensor]]:
    """Style vectors and refinement weights, in memory that was NaN before."""
    refinements = [network.allocate_refinement().fill_(torch.nan) for _ in latents]
    styles = [network.resolve(latent) if is_composed(latent) else None for latent in latents]
    given = [
        LatentInput(latent, refinement.data_ptr(), 0 if ws is None else ws.data_ptr())
        for latent, refinement, ws in zip(latents, refinements, styles, strict=True)
    ]
    block = torch.from_numpy(pack_line_inputs(network.config, given, [], 0)).to(DEVICE)
    inputs = LineInputs.view(block, len(latents), 0, network.config.thickness)
    return network.compute_styles(inputs), refinements


@pytest.mark.parametrize("name", ["plain", "conditional"])
def test_styles_of_every_kind_of_latent(name: str) -> None:
    """Of a batch, and of each alone, which are the same bytes."""
    config = VARIANTS[name]
    generator = random_network(config)
    network, latents = pack(generator, 1), latents_of(config)
    weights = network._modulated
    together, refinements = compute(network, latents)
    for latent, vector, refinement in zip(latents, together, refinements, strict=True):
        latent.check(config)
        ws = layer_styles(config, generator.mapping, latent)[0].double()  # [num_ws, w_dim]
        source = weights.affine_source.long()
        expected = (weights.affine.double() * ws[source]).sum(dim=1) + weights.affine_bias.double()
        assert relative_error(vector, expected) < 1e-6
        assert refinement.isfinite().all()
        (alone,), (alone_refinement,) = compute(network, [latent])
        assert torch.equal(alone, vector)
        assert torch.equal(alone_refinement, refinement)
