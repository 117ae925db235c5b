"""Images of any viewport from a generator as a torch module, in bounded memory: for sample grids and metrics.

The renderer (kernels/) is much faster, but packs a checkpoint first; this renders a network that is still learning.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.generator import COLUMNS, ROWS, Generator
from model.viewport import Viewport

MAX_PIXELS = 1 << 18
"""Pixels of all images of a batch whose features are held at a time: 128 channels of them are 128 MiB."""


@torch.no_grad()
def render(generator: Generator, ws: Tensor, viewport: Viewport) -> Tensor:
    """Render a viewport in float32.

    Args:
        ws: styles [N, num_ws, w_dim].
        viewport: below the resolution of the network's detail, a multiple of its size is rendered and averaged.

    Returns:
        The viewport's crop, [N, 3, h, w], about −1 … 1.
    """
    synthesis, resolution = generator.synthesis, generator.config.resolution
    x, y, w, h = viewport.crop
    m_x, m_y = viewport.supersampling(resolution, generator.config.max_scale)
    row_positions = viewport.rows(y * m_y, (y + h) * m_y, resolution, m_y)  # [h·m_y]
    column_positions = viewport.columns(x * m_x, (x + w) * m_x, resolution, m_x)  # [w·m_x]
    rows = synthesis.lines(ws, torch.from_numpy(row_positions).to(ws.device), ROWS)  # [N, bundles, 32, h·m_y, D]
    columns = synthesis.lines(ws, torch.from_numpy(column_positions).to(ws.device), COLUMNS)
    band_height = m_y * max(1, MAX_PIXELS // (len(ws) * w * m_x * m_y))
    bands = [synthesis.pixels(ws, band, columns).float() for band in torch.split(rows, band_height, dim=3)]
    return torch.cat([F.avg_pool2d(band, (m_y, m_x)) for band in bands], dim=2)  # [N, 3, h, w]
