"""Threads of torch's operations on a CPU: a trial decides, unless the user did."""

from collections.abc import Callable, Iterator

import pytest
import torch

from model.training import threads
from model.training.threads import choose_threads, time_threads
from tests.model.data.images import tiny_config


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("factor", "chosen"), [(10.0, 1), (0.6, 2)])
def test_the_faster_number_is_taken_and_told(monkeypatch: pytest.MonkeyPatch, factor: float, chosen: int) -> None:
    """``factor``: how much longer two threads take than one."""
    now = 0.0

    def work() -> None:
        nonlocal now
        now += 0.01 if torch.get_num_threads() == 1 else 0.01 * factor

    def measure(counts: tuple[int, int], _: Callable[[], object]) -> dict[int, float]:
        return time_threads(counts, work, lambda: now)

    monkeypatch.setattr(threads, "time_threads", measure)
    torch.set_num_threads(2)
    line = choose_threads(tiny_config())
    assert torch.get_num_threads() == chosen
    assert line is not None
    ratio = {1: "10× as fast as 2", 2: "1.7× as fast as 1"}[chosen]
    assert line.startswith(f"{chosen} of 2 threads: now {ratio};")


def test_a_real_trial_leaves_the_random_numbers_alone() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert choose_threads(tiny_config()) is not None
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() in (1, 2)


def test_what_the_user_set_and_a_single_thread_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    assert choose_threads(tiny_config()) is None
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(tiny_config()) is None
    assert torch.get_num_threads() == 2
