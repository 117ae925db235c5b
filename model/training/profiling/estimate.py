"""What a run will need: memory from a rehearsal, time from the count of its work and the device's rate."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.device import installed_memory
from model.training.config import Precision, TrainingConfig
from model.training.losses.path_length import BATCH_SHRINK
from model.training.rehearsal import rehearse
from model.training.state import new_discriminator

PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}
"""Side of the matrices whose product is timed: large enough to be limited by arithmetic alone."""


def estimate(config: TrainingConfig, processes: int, device: torch.device) -> str:
    """Lines about the memory of one process, and the least time of the run.

    The time is that of the matrix products and convolutions at the rate at which this device multiplies large matrices.
    What else a step does comes on top, so a run takes longer; ``creps benchmark train`` measures.
    """
    memory = rehearse(config, processes)
    flops = picture_flops(config)
    seconds = 1000 * flops / processes / matrix_rate(device, config.precision)
    installed = installed_memory(device) / 2**30
    peak = memory.peak / 2**30
    return "\n".join(
        [
            f"memory  {peak:.1f} GiB or more for each of {processes} processes; {device} has {installed:.0f}",
            f"work    {flops / 1e12:.3g} TFLOP a picture",
            f"time    {seconds:.3g} s or more for 1000 pictures, {seconds * config.total_kimg / 3600:.3g} h in all",
        ]
    )


def picture_flops(config: TrainingConfig) -> float:
    """Additions and multiplications in matrix products and convolutions for each picture of an average step.

    A network's gradient takes twice its own work where its weights learn, and once where it is passed through; what is
    computed in chunks is computed once more; a penalty's second gradient takes the first one's work twice.
    """
    shape = config.generator
    draw = 2.0 * (shape.resolution**2 * shape.pixel_macs + 2 * shape.resolution * shape.line_macs)
    again = draw if config.chunk_pixels and shape.resolution**2 * config.batch > config.chunk_pixels else 0.0
    judge = _discriminator_flops(config)
    relative = config.loss == "r3gan"
    generator_step = 3 * draw + again + (3 if relative else 2) * judge
    discriminator_step = draw + 6 * judge
    penalties = (2 if relative else 1) * 6 * judge / config.r1_interval if config.gamma else 0.0
    # First the gradient of the pictures, then their derivative, which carries two values, and its gradient.
    path_length = (2 * draw + again) + (3 * 2 * draw + 2 * again)
    rate = 1 / (BATCH_SHRINK * config.path_length_interval) if config.path_length_weight else 0.0
    return generator_step + discriminator_step + penalties + path_length * rate


def matrix_rate(device: torch.device, precision: Precision) -> float:
    """FLOP/s at which the device multiplies large matrices in the type that most of a recipe's work is done in."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = PRODUCT_SIDE[device.type]
    a = torch.randn(side, side, device=device, dtype=dtype)
    durations = []
    for _ in range(4):  # the first one warms up
        began = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        durations.append(time.perf_counter() - began)
    return float(2 * side**3 / min(durations))


def _discriminator_flops(config: TrainingConfig) -> float:
    """Of judging one picture."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        discriminator = new_discriminator(config)
        side, classes = config.generator.resolution, config.generator.classes
        discriminator(torch.zeros(1, 3, side, side), torch.zeros(1, classes) if classes else None)
    return float(counter.get_total_flops())
