"""run.json: what a run computes, from what, and with what."""

import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from model.errors import InputError
from model.files import write_atomically
from model.training.config import TrainingConfig
from model.training.dataset import ImageDataset

RECORD = "run.json"
PACKAGES = ("creps-serve", "torch", "numpy", "pillow", "safetensors", "triton")


def check_same_data(folder: Path, dataset: ImageDataset) -> None:
    """Raises InputError where a run's record names other data than these."""
    path = folder / RECORD
    if not path.exists():
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))["data"]
        digest, source = begun["digest"], begun["path"]
    except (ValueError, KeyError, TypeError):
        raise InputError("outdir", f"{path} is not the record of a run") from None
    if digest != dataset.digest:
        raise InputError("data", f"the run was begun with {source}, whose digest is another; use another outdir")


def write_record(
    folder: Path,
    config: TrainingConfig,
    dataset: ImageDataset,
    device: torch.device,
    processes: int,
    transfer: Path | None,
) -> None:
    """Writes run.json: recipe, data with their digest, versions, device, and when the run began and went on."""
    path = folder / RECORD
    sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.exists() else []
    session = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "processes": processes,
        "versions": _versions(),
    }
    record: dict[str, Any] = {
        "config": config.to_dict(),
        "data": {
            "path": str(dataset.archive.path),
            "digest": dataset.digest,
            "pictures": len(dataset.names),
            "classes": dataset.classes,
        },
        "transfer": None if transfer is None else str(transfer),
        "sessions": [*sessions, session],
    }
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
