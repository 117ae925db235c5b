"""From a latent to the styles of every layer, in one place for all renderers."""

import torch
from torch import Tensor

from model.config import GeneratorConfig
from model.generator import MappingNetwork
from model.latents.latent import Latent, unpack_floats
from model.util.device import to_device_async


@torch.no_grad()
def layer_styles(config: GeneratorConfig, mapping: MappingNetwork, latent: Latent) -> Tensor:
    """The styles w+ [1, num_ws, w_dim] of a latent that fits the network, on the mapping's device.

    Edits have vectors, not names (model/latents/directions.py replaces those).
    """
    device = mapping.w_avg.device
    ws = mapping.truncate(_source(config, mapping, latent), config.num_ws, latent.psi, latent.cutoff)
    for part in latent.styles:
        layers = list(part.layers)
        ws[:, layers] = layer_styles(config, mapping, part.latent)[:, layers]
    for edit in latent.edits:
        if isinstance(edit.direction, str):
            raise ValueError(f"the direction {edit.direction} has not been replaced by its vector")
        step = to_device_async(unpack_floats(edit.direction), device).view(-1, config.w_dim)  # [1 or num_ws, w_dim]
        layers = list(range(config.num_ws) if edit.layers is None else edit.layers)
        ws[:, layers] += edit.amount * step.expand(config.num_ws, -1)[layers]
    return ws


def _source(config: GeneratorConfig, mapping: MappingNetwork, latent: Latent) -> Tensor:
    """w [1, w_dim] or w+ [1, num_ws, w_dim], before truncation."""
    device = mapping.w_avg.device
    if latent.w is not None:
        return to_device_async(unpack_floats(latent.w), device).view(1, -1, config.w_dim).expand(1, config.num_ws, -1)
    if latent.mix:
        # In float64, so that a latent mixed with itself stays what it is.
        total = sum(part.weight for part in latent.mix)
        parts = (part.weight / total * layer_styles(config, mapping, part.latent).double() for part in latent.mix)
        return torch.stack(list(parts)).sum(0).float()  # [1, num_ws, w_dim]
    z = to_device_async(latent.sample_z(config.z_dim), device)  # [1, z_dim]
    label = None
    if config.classes:
        label = torch.zeros(1, config.classes, device=device)
        label[0, latent.class_index or 0] = 1.0
    w: Tensor = mapping(z, label)
    return w
