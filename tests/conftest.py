"""Settings of all tests."""

import os

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Before any kernel is imported: without a GPU they are interpreted, on the CPU's memory.
    os.environ["TRITON_INTERPRET"] = "1"

# How long an example takes says nothing about a busy machine.
settings.register_profile("creps", deadline=None)
settings.load_profile("creps")
