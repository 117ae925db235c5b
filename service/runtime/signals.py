"""SIGTERM and Ctrl-C in asynchronous programs."""

import asyncio
import logging
import signal
from collections.abc import Callable

logger = logging.getLogger(__name__)


def on_stop_signal(stop: Callable[[], object]) -> None:
    """Call ``stop`` at SIGTERM or Ctrl-C. A second Ctrl-C interrupts the shutdown."""
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals) -> None:
        logger.info("stopping (%s)", number.name)
        loop.remove_signal_handler(signal.SIGINT)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
