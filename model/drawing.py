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
"""Pixels whose features are there at a time, over all pictures: about 0.5 GB where the widest layer is fp32."""


@torch.no_grad()
def draw(generator: Generator, ws: Tensor, viewport: Viewport) -> Tensor:
    """The whole pictures of a viewport (its crop is not regarded).

    Args:
        ws: styles [N, num_ws, w_dim].
        viewport: below the training resolution its pictures are drawn at a multiple of their size and averaged.

    Returns:
        fp32 [N, 3, H, W], about −1 … 1.
    """
    resolution = generator.config.resolution
    m_x, m_y = viewport.supersampling(resolution)
    height, width = viewport.height * m_y, viewport.width * m_x
    row_positions = torch.from_numpy(viewport.rows(0, height, resolution, m_y)).to(ws.device)
    column_positions = torch.from_numpy(viewport.columns(0, width, resolution, m_x)).to(ws.device)
    synthesis = generator.synthesis
    rows = synthesis.lines(ws, row_positions, ROWS)
    columns = synthesis.lines(ws, column_positions, COLUMNS)
    at_once = max(1, PIXELS_AT_ONCE // (len(ws) * width * m_y)) * m_y
    bands = [synthesis.pixels(ws, band, columns).float() for band in torch.split(rows, at_once, dim=3)]
    return torch.cat([F.avg_pool2d(band, (m_y, m_x)) for band in bands], dim=2)
