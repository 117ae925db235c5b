"""``python -m kernels.first_run``: what must be known of a GPU on which the kernels have never run, in ten minutes.

Only torch, triton and numpy are needed. Without a GPU the same steps run on a tiny network in Triton's interpreter, to
test this program.
"""

import os

import torch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
