"""Checkpoints that can be served, and draw nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from model.checkpoint import FORMAT, FORMAT_VERSION, SUFFIX, Checkpoint
from model.config import GeneratorConfig
from model.shapes import tensor_shapes


def save_hollow_checkpoint(
    folder: Path, name: str, config: GeneratorConfig | None = None, class_names: list[str] | None = None
) -> Checkpoint:
    """A checkpoint of zeros. Its network has the resolution, classes and so on of ``config``, and is very narrow."""
    config = replace(config or GeneratorConfig(32), z_dim=1, w_dim=1, mapping_layers=1, channel_max=2)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(config.to_dict())}
    tensors = {name: np.zeros(shape, np.float16) for name, shape in tensor_shapes(config).items()}
    info = {"licence": "CC0", "file": name} | ({"class_names": class_names} if class_names else {})
    path = folder / f"{name}{SUFFIX}"
    save_file(tensors, path, header | {"info": json.dumps(info)})
    return Checkpoint.open(path)
