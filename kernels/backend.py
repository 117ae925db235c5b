"""What draws blocks of a picture: the face that every backend shows to the renderer."""

from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import GeneratorConfig
from model.generator import Mapping
from model.spec import Latent

Style = TypeVar("Style")


class Backend(Protocol[Style]):
    """A network made ready on one device. ``Style`` is whatever the backend prepares for one latent.

    Its methods may run in several threads at once, and return the same bytes for the same arguments.
    """

    name: str
    side: int
    """Positions along each side of the blocks that it draws best."""

    def style(self, latent: Latent) -> Style:
        """Everything that depends on the latent alone."""

    def lines(self, style: Style, positions: NDArray[np.float64], axis: int) -> Tensor:
        """The line bundles of network coordinates [L] along one axis (ROWS or COLUMNS): [bundles, 32, L, D]."""

    def pixels(self, style: Style, rows: Tensor, columns: Tensor) -> Tensor:
        """Colours [H, W, 3], about −1 … 1, of row lines [bundles, 32, H, D] and column lines [bundles, 32, W, D]."""


def upload(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copies an array to a device. The program does not wait, neither for the copy nor for what is under way there."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@torch.no_grad()
def layer_styles(config: GeneratorConfig, mapping: Mapping, latent: Latent) -> Tensor:
    """The styles [1, num_ws, w_dim] of a latent, on the mapping's device: mapped and truncated, or w as given."""
    device = mapping.w_avg.device
    if latent.w is not None:
        w = upload(np.array(latent.w, np.float32), device).view(1, -1, config.w_dim)
        return w.expand(1, config.num_ws, config.w_dim).contiguous()
    z = upload(latent.draw_z(config.z_dim), device)
    label = None
    if config.classes:
        label = torch.zeros(1, config.classes, device=device)
        label[0, latent.class_index or 0] = 1.0
    return mapping.truncate(mapping(z, label), config.num_ws, latent.psi, latent.cutoff)
