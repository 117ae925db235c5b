"""Settings of the tests of the trainer."""

from collections.abc import Iterator

import pytest
import torch

from model.training import loop, sample_grids
from model.training.profiling import estimate


@pytest.fixture(autouse=True, scope="module")
def _fast_runs() -> Iterator[None]:
    """One thread, grids of two images and no curves: the networks are so small that all else takes longer."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sample_grids, "MAX_GRID", (2, 1))
        monkeypatch.setattr(sample_grids, "MAX_LARGE_GRID", (1, 1))
        monkeypatch.setattr(loop, "plot_curves", lambda _: None)
        monkeypatch.setitem(estimate.MATRIX_SIDE, "cpu", 256)  # bf16 takes minutes on CPUs without its instructions
        yield
