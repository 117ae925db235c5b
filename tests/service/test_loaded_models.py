"""What a worker tells of the models that it holds."""

from pathlib import Path

from prometheus_client import REGISTRY

from service.catalog import Catalog
from service.loaded_models import MODELS_KEPT, LoadedModels
from tests.service.stand_in import StandIn, save_hollow_checkpoint


def test_precision_is_told_while_a_model_is_loaded(tmp_path: Path) -> None:
    checkpoints = [save_hollow_checkpoint(tmp_path, f"precise-{i}") for i in range(MODELS_KEPT + 1)]
    models = LoadedModels(Catalog(tmp_path), StandIn)
    first = checkpoints[0]

    def told(name: str, arithmetic: str, used: str) -> float | None:
        labels = {"model": first.name, "digest": first.digest, "arithmetic": arithmetic, "used": used}
        return REGISTRY.get_sample_value(name, labels)

    models.get(first.digest)
    assert told("creps_model_precision_psnr_db", "fp16", "false") == 59.5
    assert told("creps_model_precision_levels", "fp16", "false") == 2
    assert told("creps_model_precision_psnr_db", "fp16×3", "true") == 140
    assert told("creps_model_precision_psnr_db", "fp16×3", "false") is None
    for other in checkpoints[1:]:
        models.get(other.digest)
    assert told("creps_model_precision_psnr_db", "fp16×3", "true") is None
    assert told("creps_model_precision_levels", "fp16", "false") is None
