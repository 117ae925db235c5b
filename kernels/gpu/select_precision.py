"""Selects the precision of a checkpoint on a GPU: fp16, fp16×3 (near fp32), or the reference in fp32."""

import logging
import subprocess

import torch
from triton.errors import TritonError

from kernels.accuracy import AccuracyReport, make_probes, measure
from kernels.backend import RenderBackend
from kernels.gpu.launch_config import get_launch_configs
from kernels.gpu.model import ARITHMETIC, PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.gpu.self_check import check_image
from kernels.reference import ReferenceBackend
from model.checkpoint import Checkpoint
from model.errors import InputError

logger = logging.getLogger(__name__)

CHECKED = ("cuda",)
"""Types of devices on which an image is checked. Triton's interpreter would take minutes."""

KERNEL_ERRORS = (TritonError, RuntimeError, AssertionError, OSError, subprocess.SubprocessError)
"""What Triton raises if a kernel cannot be compiled or launched: out of registers or shared memory, an error of ptxas,
no C compiler, no folder for its cache."""


def select_precision(
    checkpoint: Checkpoint, device: torch.device, *, fall_back: bool
) -> tuple[RenderBackend, tuple[AccuracyReport, ...]]:
    """The fastest backend that is accurate enough for a checkpoint, and the reports of all that were tried.

    Kernels that cannot be compiled or launched are passed over like those that are not accurate enough.

    Raises:
        InputError: no kernel can be used, or the device is unknown, and ``fall_back`` to the reference is off.
        RuntimeError: the device has too little memory, or has failed.
    """
    generator = checkpoint.load().to(device)
    probes = make_probes(generator)
    tried: list[AccuracyReport] = []
    reasons: list[str] = []
    try:
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
        launch_configs = get_launch_configs(*capability)
    except InputError as error:
        launch_configs = ()
        reasons.append(error.message)
    for parts, launch_config in enumerate(launch_configs, start=1):
        try:
            backend = TritonBackend(PackedModel(generator, launch_config, parts))
            if device.type == "cuda":
                backend.compile_kernels()
            tried.append(measure(ARITHMETIC[parts], backend.colours, probes))
            logger.info("%s, %s", checkpoint.name, tried[-1])
            reason = None if tried[-1].passes else str(tried[-1])
            if reason is None and device.type in CHECKED:
                backend.warm_up()
                check = check_image(backend, generator)
                logger.info("%s, %s, %s", checkpoint.name, ARITHMETIC[parts], check)
                reason = None if check.passes else f"{ARITHMETIC[parts]}: {check}"
            if reason is None:
                return backend, tuple(tried)
        except KERNEL_ERRORS as error:
            if isinstance(error, torch.AcceleratorError) or "out of memory" in str(error):
                raise
            logger.exception("the %s kernels cannot be used", ARITHMETIC[parts])
            reason = f"{ARITHMETIC[parts]}: {type(error).__name__}: {error}"
        reasons.append(reason)
    reason = "; ".join(reasons)
    if not fall_back:
        raise InputError("backend", f"triton cannot render {checkpoint.name} on {device}: {reason}")
    logger.warning("%s is rendered by the slow reference backend: %s", checkpoint.name, reason)
    reference = ReferenceBackend(generator, device)
    tried.append(measure("fp32", reference.colours, probes))
    logger.info("%s, %s", checkpoint.name, tried[-1])
    return reference, tuple(tried)
