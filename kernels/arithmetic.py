"""The arithmetic that a GPU draws a checkpoint in: fp16, near fp32 as fp16×3, or the network itself in fp32."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.blocks import BlockDrawer
from kernels.drawer import Drawer
from kernels.gpu import GpuDrawer
from kernels.network import ARITHMETIC, GpuNetwork
from kernels.plans import find_plan
from kernels.precision import Agreement, make_probes, measure
from kernels.reference import ReferenceBackend
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.generator import COLUMNS, ROWS
from model.spec import Latent

logger = logging.getLogger(__name__)


def choose_drawer(
    checkpoint: Checkpoint, device: torch.device, *, fall_back: bool
) -> tuple[Drawer, tuple[Agreement, ...]]:
    """The fastest arithmetic that is precise enough for a checkpoint, and what was measured of all that were tried.

    Raises:
        InputError: none is, or the device is not known, and ``fall_back`` does not allow the network itself in fp32.
    """
    generator = checkpoint.load().to(device)
    probes = make_probes(generator)
    tried: list[Agreement] = []
    drawer: Drawer
    try:
        plan = find_plan(*torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0))
        for parts in (1, 2):
            if plan.of(parts) is None:
                continue
            drawer = GpuDrawer(GpuNetwork(generator, plan, parts))
            tried.append(measure(ARITHMETIC[parts], drawer.colours, probes))
            logger.info("%s, %s", checkpoint.name, tried[-1])
            if tried[-1].suffices:
                drawer.warm_up()
                return drawer, tuple(tried)
        reason = "; ".join(map(str, tried))
    except InputError as error:
        reason = error.message
    if not fall_back:
        raise InputError("backend", f"triton cannot draw {checkpoint.name} on {device}: {reason}")
    logger.warning("%s is drawn by the slow reference: %s", checkpoint.name, reason)
    reference = ReferenceBackend(generator, device)

    def draw(latent: Latent, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
        style = reference.style(latent)
        return reference.pixels(style, reference.lines(style, rows, ROWS), reference.lines(style, columns, COLUMNS))

    tried.append(measure("fp32", draw, probes))
    logger.info("%s, %s", checkpoint.name, tried[-1])
    return BlockDrawer(reference, checkpoint.config, device), tuple(tried)
