"""When an error means that the device is lost, and when it does not."""

from typing import Any

import pytest

from model.errors import InputError
from service.queue.messages import RenderFailed
from service.worker.render_executor import DeviceLostError, RenderExecutor
from tests.service.stand_in import make_spec

pytestmark = pytest.mark.anyio


class FailingModels:
    """Cannot load any model."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get(self, digest: str) -> Any:
        raise self._error


def fail() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("model", "is broken"), "unavailable"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
    ],
)
async def test_bad_input_and_full_memory_do_not_ask_the_device(error: Exception, kind: str) -> None:
    executor = RenderExecutor(FailingModels(error), fail)  # type: ignore[arg-type]
    (outcome,) = await executor.render([make_spec("a")], [{}], [lambda: True])
    assert isinstance(outcome, RenderFailed)
    assert outcome.kind == kind
    executor.shutdown()


async def test_an_unexpected_error_while_loading_asks_the_device() -> None:
    models: Any = FailingModels(RuntimeError("Triton Error [CUDA]: misaligned address"))
    lost, sound = RenderExecutor(models, fail), RenderExecutor(models, lambda: None)
    with pytest.raises(DeviceLostError, match="misaligned address"):
        await lost.render([make_spec("a")], [{}], [lambda: True])
    (outcome,) = await sound.render([make_spec("a")], [{}], [lambda: True])
    assert isinstance(outcome, RenderFailed)
    assert outcome.kind == "unavailable"
    for executor in (lost, sound):
        executor.shutdown()
