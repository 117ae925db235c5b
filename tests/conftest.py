"""Settings of all tests."""

import os

import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    # Before any kernel is imported: without a GPU they are interpreted, on the CPU's memory.
    os.environ["TRITON_INTERPRET"] = "1"

# How long an example takes says nothing about a busy machine. A change is judged by the same examples as the one before
# it; others are looked for by --hypothesis-profile=new.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("creps", settings.get_profile("new"), derandomize=True)
settings.load_profile("creps")
