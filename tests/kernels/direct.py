"""Warped images by direct evaluation: the network in fp64 at each sample's own coordinates."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import RGB
from model.generator import COLUMNS, ROWS, Generator
from model.geometry.maps import pull_back
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from model.viewport import Viewport


def direct_colours(generator: Generator, latent: Latent, viewport: Viewport, samples: int = 1) -> NDArray[np.float64]:
    """Colours [h, w, 3] of a viewport's crop from samples × samples in each pixel; black where there is no picture."""
    x, y, w, h = viewport.crop
    columns = viewport.plane(x * samples, (x + w) * samples, 0, samples) - 0.5
    rows = viewport.plane(y * samples, (y + h) * samples, 1, samples) - 0.5
    u, v = pull_back(viewport.transform)(*np.meshgrid(columns, rows))
    resolution = generator.config.resolution
    places = (viewport.network_coordinates(each + 0.5, axis, resolution) for axis, each in ((1, v), (0, u)))
    coordinates = np.stack([*places], axis=-1)  # [h·samples, w·samples, 2]
    filled: NDArray[np.bool_] = np.isnan(coordinates).any(axis=-1)  # type: ignore[assignment]
    colours = colours_at(generator, latent, np.where(filled[..., None], 0.0, coordinates))
    colours[filled] = -1.0
    means: NDArray[np.float64] = colours.reshape(h, samples, w, samples, RGB).mean(axis=(1, 3))
    return means


@torch.no_grad()
def colours_at(generator: Generator, latent: Latent, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours [H, W, 3] at network coordinates [H, W, 2] (vertical, horizontal)."""
    height, width, _ = coordinates.shape
    synthesis = copy.deepcopy(generator.synthesis).double()
    ws = layer_styles(generator.config, generator.mapping, latent).double()
    rows, columns = (
        synthesis.lines(ws, torch.from_numpy(coordinates[..., axis].ravel()), axis) for axis in (ROWS, COLUMNS)
    )
    products = (rows * columns).sum(dim=-1, keepdim=True)  # [1, bundles, 32, H·W, 1], as columns of a row of ones
    colours = synthesis.pixels(ws, torch.ones_like(products[:, :, :, :1]), products)[0, :, 0]  # [3, H·W]
    found: NDArray[np.float64] = colours.T.reshape(height, width, RGB).numpy()
    return found


def to_levels(colours: NDArray[np.float64]) -> NDArray[np.int64]:
    return (colours * 127.5 + 128).clip(0, 255).astype(np.int64)
