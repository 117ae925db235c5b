"""What training sets of torch for its device: the arithmetic of fp32 and the way of batches to a GPU."""

import multiprocessing
from multiprocessing.context import BaseContext

import torch
from torch import Tensor

from model.training.config import TrainingConfig


def uses_tf32(config: TrainingConfig) -> bool:
    """Whether GPUs compute fp32 convolutions and products in TF32, which has fp16's 10 bits and fp32's range."""
    return config.precision != "fp32"


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16, without which fp32 is many times faster."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def set_arithmetic(config: TrainingConfig, device: torch.device) -> None:
    """Sets TF32 for convolutions and products alike, where torch's own defaults differ, and lets cuDNN measure.

    All steps of a run have the same shapes, so that it measures its algorithms for each once.
    """
    if device.type == "cuda":
        # By the older names: torch.compile reads them, and raises an error if the newer ones were set.
        torch.backends.cuda.matmul.allow_tf32 = uses_tf32(config)
        torch.backends.cudnn.allow_tf32 = uses_tf32(config)
        torch.backends.cudnn.benchmark = True


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, for which a GPU's other work does not wait."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def reader_context() -> BaseContext:
    """The start method of processes that read images: forked from a server that has imported what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["model.data.dataset"])
    return context
