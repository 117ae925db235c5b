"""Estimates the memory and the minimum time of a run, for ``creps train --dry-run``."""

import time
from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.training.config import Precision, TrainingConfig
from model.training.losses.path_length import BATCH_SHRINK
from model.training.patches import choose_patches, samples_per_pixel
from model.training.profiling.memory import estimate_peak_memory
from model.training.state import new_discriminator
from model.util.device import installed_memory
from model.util.progress import say

MATRIX_SIDE = {"cuda": 8192, "cpu": 2048}
"""Side of the matrices whose product is timed: large enough to be limited by arithmetic."""


def estimate(config: TrainingConfig, processes: int, device: torch.device) -> str:
    """Describes the memory of one process and the minimum time of the run.

    The time counts only matrix products and convolutions, at the rate of large matrix products on this device. A run
    takes longer; ``creps benchmark train`` measures it.
    """
    say("counting the memory of a step, which takes a minute or two at 1024² …")
    peak = estimate_peak_memory(config, processes) / 2**30
    flops = training_flops(config)
    seconds = 1000 * flops / processes / measure_matmul_rate(device, config.precision)
    installed = installed_memory(device) / 2**30
    return (
        f"memory  {peak:.1f} GiB or more for each of {processes} processes; {device} has {installed:.0f}\n"
        f"work    {flops / 1e12:.3g} TFLOP per image\n"
        f"time    {seconds:.3g} s or more for 1000 images, {seconds * config.total_kimg / 3600:.3g} h in total"
    )


def training_flops(config: TrainingConfig) -> float:
    """Floating-point operations of matrix products and convolutions per image, averaged over steps.

    A backward pass costs twice the forward pass, or once if only the input needs a gradient. Checkpointing repeats the
    forward pass. The gradient of a gradient penalty costs twice a forward and backward pass.
    """
    shape = config.generator
    pixels, positions = _mean_samples(config)
    generator = 2.0 * (pixels * shape.pixel_macs + positions * shape.line_macs)
    recompute = generator if config.chunk_pixels and pixels * config.batch > config.chunk_pixels else 0.0
    with torch.device("meta"), FlopCounterMode(display=False) as counter:  # one image
        new_discriminator(config)(
            torch.zeros(1, 3, shape.resolution, shape.resolution), torch.zeros(1, shape.classes), torch.zeros(1, 3)
        )
    discriminator = float(counter.get_total_flops())
    relativistic = config.loss == "r3gan"
    generator_step = 3 * generator + recompute + (3 if relativistic else 2) * discriminator
    discriminator_step = generator + 6 * discriminator
    penalties = (2 if relativistic else 1) * 6 * discriminator / config.r1_interval if config.gamma else 0.0
    # The images' gradient, then their forward-mode derivative, which doubles a pass, and its gradient.
    path_length = (2 * generator + recompute) + (3 * 2 * generator + 2 * recompute)
    rate = 1 / (BATCH_SHRINK * config.path_length_interval) if config.path_length_weight else 0.0
    return generator_step + discriminator_step + penalties + path_length * rate


def _mean_samples(config: TrainingConfig) -> tuple[float, float]:
    """Samples, and rows plus columns, that the network computes for an image of the batch on average."""
    side = config.generator.resolution
    large = round(side * config.generator.max_scale)
    patches = [patch for first in range(100) for patch in choose_patches(config, [large] * config.batch, first)]
    factors = [samples_per_pixel(config, patch) for patch in patches]
    return fmean(m * m for m in factors) * side**2, fmean(factors) * 2 * side


def measure_matmul_rate(device: torch.device, precision: Precision) -> float:
    """FLOP/s of large matrix products, in the dtype of most of the work."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = MATRIX_SIDE[device.type]
    a = torch.randn(side, side, device=device, dtype=dtype)
    durations = []
    for _ in range(4):  # the first one is the warm-up
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        durations.append(time.perf_counter() - start)
    return float(2 * side**3 / min(durations))
