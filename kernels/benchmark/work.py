"""How much work pictures are."""

from model.config import GeneratorConfig
from model.viewport import Viewport


def count_macs(config: GeneratorConfig, viewport: Viewport) -> tuple[int, int]:
    """Multiply-adds of the lines and of the pixels, not counting what a backend draws beyond the picture's edges."""
    m_x, m_y = viewport.supersampling(config.resolution)
    width, height = viewport.width * m_x, viewport.height * m_y
    return (width + height) * config.line_macs, width * height * config.pixel_macs
