"""Which models a worker keeps, and what it tells of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from model.checkpoint import Checkpoint
from service.models.catalog import Catalog
from service.worker.model_cache import ModelCache
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.stand_in import StandIn

KINDS = {"small": 10, "large": 60, "huge": 500}


class Sized(StandIn):
    """Takes as many bytes as its name says, until it is closed."""

    held = 0

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.memory = KINDS[checkpoint.name.partition("-")[0]]
        Sized.held += self.memory

    def close(self) -> None:
        Sized.held -= self.memory


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[ModelCache]:
    Sized.held = 0
    models = ModelCache(Catalog(tmp_path), Sized, limit=100)
    yield models
    models.evict_all_but(())
    assert Sized.held == 0


def save(folder: Path, *names: str) -> list[str]:
    return [save_hollow_checkpoint(folder, name).digest for name in names]


def test_the_longest_unused_go_as_far_as_memory_asks(loaded: ModelCache, tmp_path: Path) -> None:
    a, b, large, other = save(tmp_path, "small-a", "small-b", "large-a", "large-b")
    for digest in (a, b, large, a):
        loaded.get(digest)
    assert list(loaded.digests) == [b, large, a]
    loaded.get(other)  # 10 + 60 + 10 + 60: two have to go
    assert list(loaded.digests) == [a, other]
    assert Sized.held == 70


def test_the_one_that_is_asked_for_stays_whatever_it_takes(loaded: ModelCache, tmp_path: Path) -> None:
    small, huge = save(tmp_path, "small-a", "huge-a")
    loaded.get(small)
    loaded.get(huge)
    assert loaded.digests == (huge,)
    loaded.get(small)
    assert loaded.digests == (small,)


def test_models_that_are_not_served_any_more_are_unloaded(loaded: ModelCache, tmp_path: Path) -> None:
    a, b = save(tmp_path, "small-a", "small-b")
    loaded.get(a)
    loaded.get(b)
    loaded.evict_all_but({b, "0" * 64})
    assert loaded.digests == (b,)
    assert Sized.held == 10


def test_what_is_told_of_a_model_is_told_while_it_is_loaded(loaded: ModelCache, tmp_path: Path) -> None:
    first = save_hollow_checkpoint(tmp_path, "large-precise")

    def told(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"model": first.name, "digest": first.digest, **labels})

    def precision(name: str, arithmetic: str, used: str) -> float | None:
        return told(f"creps_model_precision_{name}", arithmetic=arithmetic, used=used)

    loaded.get(first.digest)
    assert told("creps_model_loaded") == 1
    assert told("creps_model_memory_bytes") == 60
    assert precision("psnr_db", "fp16", "false") == 59.5
    assert precision("levels", "fp16", "false") == 2
    assert precision("psnr_db", "fp16×3", "true") == 140
    assert precision("psnr_db", "fp16×3", "false") is None
    loaded.get(*save(tmp_path, "large-other"))
    assert told("creps_model_loaded") is None
    assert told("creps_model_memory_bytes") is None
    assert precision("psnr_db", "fp16×3", "true") is None
    assert precision("levels", "fp16", "false") is None


def test_the_rate_is_that_of_the_largest_batch_until_batches_are_large(loaded: ModelCache, tmp_path: Path) -> None:
    (digest,) = save(tmp_path, "small-a")
    model = loaded.get(digest)
    rates = []
    for pixels, seconds in ((1, 0.25), (1000, 0.1), (100, 1.0), (100_000, 1.0), (4, 1.0)):
        model.measure(pixels, seconds)
        rates.append(model.rate)
    assert rates == pytest.approx([4.0, 10_000, 10_000, 100_000, 100_000])
    model.measure(200_000, 1.0)
    assert model.rate is not None
    assert 100_000 < model.rate < 200_000
