"""The descriptor of a Deep Zoom picture: what viewers read before they ask for tiles."""

from service.outputs.order import Order

_NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


def descriptor(order: Order) -> bytes:
    """The .dzi file. Tiles do not overlap: the network's do not differ at their edges."""
    picture = order.pyramid.levels[-1]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="{_NAMESPACE}" Format="{order.suffix}" Overlap="0" TileSize="{order.tile}">\n'
        f'  <Size Width="{picture.width}" Height="{picture.height}"/>\n'
        "</Image>\n"
    ).encode()
