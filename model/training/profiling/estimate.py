"""Estimates the memory and the time of a run: on this machine for ``creps train --dry-run``, and on GPUs."""

import time
from dataclasses import replace
from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.training.config import Precision, TrainingConfig
from model.training.losses.path_length import BATCH_SHRINK
from model.training.patches import choose_patches, samples_per_pixel
from model.training.profiling.measure import measure_training, step_kinds
from model.training.profiling.memory import estimate_peak_memory
from model.training.state import new_discriminator
from model.util.device import installed_memory
from model.util.measuring import peak_memory
from model.util.progress import say
from model.util.text import duration

MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
"""Side of the matrices whose product is timed: large enough to be limited by arithmetic."""

TRIAL_SECONDS = {"cuda": 5.0, "cpu": 5.0}
"""Of pure arithmetic in the steps that are timed, which take several times as long."""

CPU_FACTOR, CPU_BYTES = 1.8, 0.3 * 2**30
"""Of the tensors of a step, and what the first step loads, measured on an Intel Xeon with small-64 and small-128:
oneDNN copies weights and has workspaces, and the allocator keeps freed memory."""

GPUS = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}
"""Peak FLOP/s in bf16 by the GPUs' data sheets."""

GPU_PART = 0.25
"""Of the peak, assumed for large networks."""

GPU_STEP_SECONDS = 0.03
"""Assumed least time of a step: it launches thousands of kernels, each of which takes about 10 µs of the CPU."""


def estimate(config: TrainingConfig, processes: int, device: torch.device) -> str:
    """Describes the memory of one process and the time of the run, without metrics and snapshots.

    The time is that of a few real steps on this device, of as many images as can be computed in seconds. If that is
    not even one minibatch group, it counts only matrix products and convolutions, at the rate of large matrix products.
    """
    peak = peak_memory(device)  # of Python and torch on a CPU
    side = config.generator.resolution
    say(f"counting the memory of a step of {side}² pixels, without computing it; at 1024² this takes some minutes …")
    tensors = estimate_peak_memory(config, processes)
    peak += tensors if device.type == "cuda" else round(CPU_FACTOR * tensors + CPU_BYTES)
    flops, installed = training_flops(config), installed_memory(device)
    rate = measure_matmul_rate(device, config.precision)
    images = _count_trial_images(config, processes, TRIAL_SECONDS[device.type] * rate / flops)
    if images and peak < installed:
        say("timing some steps …")
        seconds, basis = _time_image(config, images, device), f"by steps of {images} images that were timed"
        peak = max(peak, peak_memory(device))
    else:
        seconds, basis = flops / rate, "or more, by the rate of large matrix products: the steps were not timed"
    seconds *= 1000 / processes
    lines = [
        f"memory  {peak / 2**30:.1f} GiB for each of {processes} processes; {device} has {installed / 2**30:.0f}",
        f"work    {flops / 1e12:.3g} TFLOP per image",
        f"time    {seconds:.3g} s for 1000 images, {duration(seconds * config.total_kimg)} in total, {basis}",
    ]
    if device.type == "cpu":
        lines.append(f"GPUs    {describe_gpus(config)}")
    return "\n".join(lines)


def describe_gpus(config: TrainingConfig, images: float | None = None) -> str:
    """About how long so many images take on one GPU, by default those of the whole run."""
    images = config.total_kimg * 1000 if images is None else images
    flops = training_flops(config)
    steps = images / config.batch
    seconds = {
        name: steps * max(GPU_STEP_SECONDS, config.batch * flops / (GPU_PART * peak)) for name, peak in GPUS.items()
    }
    times = ", ".join(f"{duration(value)} on one {name}" for name, value in seconds.items())
    basis = f"{flops / 1e12:.2g} TFLOP per image at a quarter of the peak in bf16"
    least = f"{GPU_STEP_SECONDS * 1000:.0f} ms a step or more"
    return f"about {times}: not measured, but estimated from {basis}, and {least}"


def _count_trial_images(config: TrainingConfig, processes: int, affordable: float) -> int:
    """Images of the steps to time: whole minibatch groups, at most a microbatch, of ``affordable`` in total."""
    share = config.microbatch or config.batch // processes
    group = min(config.minibatch_group, share)
    each = affordable / (1 + len(step_kinds(config)))  # the first step is not timed
    return min(share, int(each) // group * group)


def _time_image(config: TrainingConfig, images: int, device: torch.device) -> float:
    """Seconds of an image, by steps of fewer images than the run's."""
    trial = replace(config, batch=images, microbatch=0, minibatch_group=min(config.minibatch_group, images))
    seconds = measure_training(trial, str(device), 1).seconds / 1000
    return seconds * training_flops(config) / training_flops(trial)  # fewer images may need no recomputation


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
