"""Pictures of any viewport from the network as it is, in bounded memory: for sample sheets and metrics.

The renderer (kernels/) draws the same pictures much faster, but from a checkpoint that it has packed first; a network
that is still learning is drawn by this.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.generator import COLUMNS, ROWS, Generator
from model.viewport import Viewport

PIXELS_AT_ONCE = 1 << 18
"""Pixels whose features are held at a time, for all pictures of a batch: 128 channels of them are 128 MiB."""


@torch.no_grad()
def draw(generator: Generator, ws: Tensor, viewport: Viewport) -> Tensor:
    """The pictures of a viewport, in fp32.

    Args:
        ws: styles [N, num_ws, w_dim].
        viewport: below the training resolution its pictures are drawn at a multiple of their size and averaged.

    Returns:
        [N, 3, h, w], the viewport's crop, about −1 … 1.
    """
    synthesis, resolution = generator.synthesis, generator.config.resolution
    x, y, w, h = viewport.crop
    m_x, m_y = viewport.supersampling(resolution)
    row_positions = viewport.rows(y * m_y, (y + h) * m_y, resolution, m_y)
    column_positions = viewport.columns(x * m_x, (x + w) * m_x, resolution, m_x)
    rows = synthesis.lines(ws, torch.from_numpy(row_positions).to(ws.device), ROWS)
    columns = synthesis.lines(ws, torch.from_numpy(column_positions).to(ws.device), COLUMNS)
    at_once = m_y * max(1, PIXELS_AT_ONCE // (len(ws) * w * m_x * m_y))
    bands = [synthesis.pixels(ws, band, columns).float() for band in torch.split(rows, at_once, dim=3)]
    return torch.cat([F.avg_pool2d(band, (m_y, m_x)) for band in bands], dim=2)
