"""What a run is: its first lines, and run.json with config, data, software versions and sessions."""

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch

from model.data.dataset import ImageDataset
from model.data.pyramid import describe_sizes
from model.errors import InputError
from model.training.config import TrainingConfig
from model.training.device import uses_tf32
from model.training.patches import describe_patches
from model.util.files import write_json
from model.util.text import printable

RUN_METADATA = "run.json"
PACKAGES = ("creps-serve", "torch", "numpy", "pillow", "safetensors", "triton")


def check_same_data(folder: Path, dataset: ImageDataset) -> None:
    """Raises InputError if the folder's run was started with other data."""
    run = _read(folder)
    if run is not None and run["data"]["digest"] != dataset.digest:
        raise InputError(
            "data", f"the run was started with {run['data']['path']}, whose digest differs; use another outdir"
        )


def read_run_config(folder: Path) -> TrainingConfig | None:
    """The settings of the folder's run, if there is one. Raises InputError if its run.json is not valid."""
    run = _read(folder)
    return None if run is None else TrainingConfig.from_dict(run["config"])


def describe_run(config: TrainingConfig, dataset: ImageDataset, device: torch.device, processes: int) -> Iterator[str]:
    """Lines that tell with what a run trains: data, recipe and devices."""
    mirrored = "and their mirror images" if config.mirror else "not mirrored"
    size = describe_sizes(dataset.sides)
    yield f"data: {dataset.archive.path}, {len(dataset.names):,} images of {size}, {mirrored}"
    if config.patches:
        yield describe_patches(config)
    if dataset.classes and not config.generator.classes:
        names = f" ({printable(', '.join(dataset.class_names))})" if dataset.class_names else ""
        yield (
            f"the network has no classes and ignores the {dataset.classes} of the data{names}; "
            f"--classes {dataset.classes} uses them"
        )
    recipe = {
        "loss": config.loss,
        "batch": config.batch,
        "gamma": config.gamma,
        "learning rate": config.learning_rate,
        "augmentation": config.augmentation,
        "precision": config.precision,
    }
    yield f"recipe: {', '.join(f'{name} {value}' for name, value in recipe.items())}"
    each = f"{processes} processes, each on " if processes > 1 else ""
    threads = torch.get_num_threads()
    if device.type == "cuda":
        yield f"devices: {each}{_device_name(device)}, TF32 {'on' if uses_tf32(config) else 'off'}"
    else:
        yield f"devices: {each}{_device_name(device)} with {threads} thread{'' if threads == 1 else 's'}"


def write_run_metadata(
    folder: Path,
    config: TrainingConfig,
    dataset: ImageDataset,
    device: torch.device,
    processes: int,
    transfer: Path | None,
) -> None:
    """Writes run.json with one more session: when it started, on which device and with which versions."""
    sessions = (_read(folder) or {"sessions": []})["sessions"]
    session = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": _device_name(device),
        "processes": processes,
        "versions": _versions(),
    }
    run: dict[str, Any] = {
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
    write_json(folder / RUN_METADATA, run)


def _read(folder: Path) -> dict[str, Any] | None:
    """The folder's run.json, if there is one. Raises InputError if it is not valid."""
    path = folder / RUN_METADATA
    if not path.exists():
        return None
    try:
        run = json.loads(path.read_bytes())
        valid = {"digest", "path"} <= run["data"].keys() and isinstance(run["sessions"], list)
        valid = valid and "generator" in run["config"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise InputError("outdir", f"{path} is not a valid run.json; use another outdir")
    return cast(dict[str, Any], run)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
