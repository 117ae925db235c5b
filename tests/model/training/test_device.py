"""What training asks of a GPU, with stand-ins for it."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from model.training.config import Precision
from model.training.device import set_arithmetic, to_device
from model.training.distributed import init_distributed
from tests.model.data.images import tiny_config

GPU = torch.device("cuda")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_convolutions_and_products_have_one_precision(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, expected: bool
) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for module, name in ((matmul, "allow_tf32"), (cudnn, "allow_tf32"), (cudnn, "benchmark")):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored after the test
    set_arithmetic(tiny_config(precision=precision), GPU)
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == (expected, expected, True)


def test_batches_reach_a_gpu_without_waiting() -> None:
    calls: list[Any] = []

    class Recorder(torch.Tensor):
        def pin_memory(self, *_: Any) -> "Recorder":
            calls.append("pinned")
            return self

        def to(self, *args: Any, **options: Any) -> "Recorder":
            calls.append((args, options))
            return self

    to_device(torch.zeros(2).as_subclass(Recorder), GPU)
    assert calls == ["pinned", ((GPU,), {"non_blocking": True})]


def test_nccl_knows_the_gpu_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **options: groups.append((args, options)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "new_group", lambda **_: None)
    with init_distributed(GPU) as (distributed, device):
        assert (distributed.rank, device) == (1, torch.device("cuda:1"))
    ((args, options),) = groups
    assert args == ("nccl",)
    assert options["device_id"] == torch.device("cuda:1")
