"""Settings of all tests."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from model.util.garbage import collect_seldom

collect_seldom()  # collections would take a quarter of the time in which test modules are imported


def _has_gpu() -> bool:
    """Importing torch takes seconds, so it is not done where there is no NVIDIA driver."""
    if not any(Path("/dev").glob("nvidia*")):
        return False
    import torch

    return torch.cuda.is_available()


# Shells start background jobs with SIGINT ignored, and nohup ignores SIGHUP. The processes that tests start and stop
# would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

if not _has_gpu():
    # Set before any kernel is imported: without a GPU, kernels run in Triton's interpreter on the CPU.
    os.environ["TRITON_INTERPRET"] = "1"

# Examples have no deadline, since their time depends on the machine. Those of the fast profile are the same on every
# run, so that a failure is the change's fault; make test-all draws many others.
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
settings.register_profile("fast", settings.get_profile("all"), derandomize=True, max_examples=20)
settings.load_profile("fast")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.freeze()  # modules and tests are there until the end
