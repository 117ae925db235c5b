"""Reads the reference outputs in tests/golden, which its README describes."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.generator import Generator

FOLDER = Path(__file__).parent / "golden"
NETWORKS = ("official_r32", "official_r16_conditional", "official_r16_thickness4")


@dataclass(frozen=True)
class Case:
    """One reference output: what was asked for, and the original's styles and image."""

    name: str
    asked: dict[str, Any]
    ws: Tensor  # [N, num_ws, w_dim]
    image: Tensor  # [N, 3, H, W]
    uint8: NDArray[np.uint8]  # [N, H, W, 3]

    @property
    def in_range(self) -> bool:
        """Whether the image can be compared in 8 bits."""
        return "ws_scale" not in self.asked

    def styles(self, generator: Generator) -> Tensor:
        """The styles [N, num_ws, w_dim] that ``generator`` gives the case."""
        config, asked = generator.config, self.asked
        if "ws_seed" in asked:
            drawn = np.random.RandomState(asked["ws_seed"]).randn(1, config.num_ws, config.w_dim)
            return torch.from_numpy(drawn * asked.get("ws_scale", 1)).float()
        ws = self._mapped(generator, asked["seed"])
        if "mix_seed" in asked:
            ws[:, asked["mix_from"] :] = self._mapped(generator, asked["mix_seed"])[:, asked["mix_from"] :]
        return ws

    def positions(self) -> tuple[Tensor, Tensor]:
        """Network coordinates of the image's rows [H] and columns [W], float64."""
        size = self.asked.get("size")
        rows, columns = (self.asked.get(axis, (0.0, 1.0, size)) for axis in ("rows", "cols"))
        y0, y1, x0, x1 = self.asked.get("window", (0, rows[2], 0, columns[2]))
        return (
            torch.linspace(*rows, dtype=torch.float64)[y0:y1],
            torch.linspace(*columns, dtype=torch.float64)[x0:x1],
        )

    def _mapped(self, generator: Generator, seed: int) -> Tensor:
        config, asked = generator.config, self.asked
        z = np.random.RandomState(seed).randn(asked.get("batch", 1), config.z_dim).astype(np.float32)
        label = torch.eye(config.classes)[[asked["label"]]] if config.classes else None
        w = generator.mapping(torch.from_numpy(z), label)
        return generator.mapping.truncate(w, config.num_ws, asked.get("psi", 1.0), asked.get("cutoff"))


@dataclass(frozen=True)
class Golden:
    """One file: the network's tensors under their original names, its constructor's arguments, and the cases."""

    state: dict[str, Tensor]
    config: dict[str, Any]
    num_ws: int
    cases: tuple[Case, ...]


@cache
def load(network: str) -> Golden:
    with np.load(FOLDER / f"{network}.npz") as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        state = {
            name.removeprefix("state/"): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("state/")
        }
        cases = tuple(
            Case(
                name=f"{network}-case{i}",
                asked=asked,
                ws=torch.from_numpy(arrays[f"case{i}/ws"]),
                image=torch.from_numpy(arrays[f"case{i}/image"]),
                uint8=arrays[f"case{i}/uint8"],
            )
            for i, asked in enumerate(meta["cases"])
        )
    return Golden(state, meta["config"], meta["num_ws"], cases)


def all_cases() -> list[tuple[str, Case]]:
    """Every case of every file with its network's name, for parametrised tests."""
    return [(network, case) for network in NETWORKS for case in load(network).cases]
