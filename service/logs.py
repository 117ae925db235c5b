"""Where log messages go."""

import logging


def configure_logging(level: str) -> None:
    """Messages of ``level`` and above go to stderr, one line each."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says beside warnings, we say ourselves
    logging.getLogger("asyncio").setLevel(logging.WARNING)
