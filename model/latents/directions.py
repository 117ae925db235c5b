"""Directions in w that change the image in a meaningful way, found without labels.

* SeFa (Shen & Zhou 2021, arXiv 2007.06600), for each style on its own: the right singular vectors of the affine layers
  that read it. A joint decomposition would be dominated by the input's affine, which has most of the rows.
* PCA of w (GANSpace, Härkönen et al. 2020, arXiv 2004.02546), for all styles at once; of a conditional network, of the
  differences to the mean of each class.

Everything is computed on the CPU, the axes in float64, with fixed signs and order, so that a name means the same on
every machine.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.generator import Block, FullyConnectedLayer, Generator, ModulatedLayer, Refinement
from model.latents.direction import Direction
from model.latents.effects import Effects
from model.util.threads import default_threads, single_operation_pool

SAMPLES = 10_000
"""Latents that are mapped for the PCA and for standard deviations."""

SEFA_PER_STYLE = 4
PCA_AXES = 16
"""Candidates. What changes the image less than MIN_RATIO times as much as a random direction is dropped."""

MIN_RATIO = 2.0

MIN_EFFECT = 1.0
"""Level of 255. What changes the image less by a step of one sigma is dropped, too."""


def find_directions(generator: Generator) -> list[Direction]:
    """The directions of a network, strongest first, SeFa before PCA. Takes seconds, or minutes for a large network."""
    samples = sample_w(generator)  # [SAMPLES, w_dim]
    candidates = [*_sefa(generator, samples), *_pca(generator.config.num_ws, samples)]
    effects = Effects(generator, length=0.2 * float(np.linalg.norm(samples, axis=1).mean()))
    with single_operation_pool(default_threads(), "creps-directions") as pool:
        scored = list(pool.map(lambda candidate: _score(candidate, effects), candidates))
    kept = [found for found in scored if found.effect >= MIN_EFFECT and found.ratio >= MIN_RATIO]
    kept.sort(key=lambda direction: -direction.effect)
    return [*_number(kept, "sefa"), *_number(kept, "pca")]


def _score(candidate: Direction, effects: Effects) -> Direction:
    effect, luma, chroma = effects.measure(candidate.vector, candidate.layers)
    ratio = effects.ratio(candidate.axis, candidate.layers) if effect >= MIN_EFFECT else 0.0
    return replace(candidate, effect=effect, ratio=ratio, luma=luma, chroma=chroma)


@torch.no_grad()
def sample_w(generator: Generator) -> NDArray[np.float64]:
    """w − mean of w of random z [SAMPLES, w_dim], in float64; of a conditional network, minus the mean of the class."""
    config, mapping = generator.config, generator.mapping
    z = torch.from_numpy(np.random.RandomState(0).randn(SAMPLES, config.z_dim))
    classes = torch.arange(SAMPLES) % max(1, config.classes)
    label = nn.functional.one_hot(classes, config.classes).double() if config.classes else None
    double = type(mapping)(config).double()
    double.load_state_dict(mapping.state_dict())
    w = double(z, label).numpy()
    for index in range(max(1, min(config.classes, SAMPLES))):
        members = classes.numpy() == index
        w[members] -= w[members].mean(0)
    return np.asarray(w, np.float64)


def _sefa(generator: Generator, samples: NDArray[np.float64]) -> Iterable[Direction]:
    for style, affines in enumerate(affines_of_styles(generator)):
        rows = torch.cat([affine.weight for affine in affines]).double().cpu().numpy()  # [rows, w_dim]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
        _, _, axes = np.linalg.svd(rows, full_matrices=False)  # largest singular value first
        for axis in map(_fix_sign, axes[:SEFA_PER_STYLE]):
            yield Direction("sefa", (style,), axis, float((samples @ axis).std()))


def _pca(num_ws: int, samples: NDArray[np.float64]) -> Iterable[Direction]:
    variances, axes = np.linalg.eigh(samples.T @ samples / len(samples))  # smallest first
    for variance, axis in list(zip(variances, axes.T, strict=True))[: -PCA_AXES - 1 : -1]:
        yield Direction("pca", tuple(range(num_ws)), _fix_sign(axis), float(np.sqrt(variance.clip(0))))


def affines_of_styles(generator: Generator) -> list[list[FullyConnectedLayer]]:
    """For each style, the affine layers that read it (model.generator.SynthesisNetwork.lines)."""
    synthesis = generator.synthesis
    affines: list[list[FullyConnectedLayer]] = [[] for _ in range(generator.config.num_ws)]
    affines[0].append(synthesis.input.affine)
    for k, block in enumerate(cast(Iterable[Block], synthesis.blocks)):
        layers = [layer for layer in (block.fc0, block.fc1, block.to_line) if layer is not None]
        for style, layer in enumerate(layers, max(1, 2 * k - 1)):
            affines[style].append(layer.affine)
    for refinement in cast(Iterable[Refinement], synthesis.refinements):
        affines[-1] += [layer.affine for layer in refinement.children() if isinstance(layer, ModulatedLayer)]
    return affines


def _fix_sign(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sign of an axis is arbitrary: its largest component becomes positive."""
    return np.ascontiguousarray(axis if axis[np.abs(axis).argmax()] > 0 else -axis)


def _number(directions: Iterable[Direction], kind: str) -> list[Direction]:
    """Those of a kind, numbered in their order."""
    kept = [direction for direction in directions if direction.name == kind]
    return [replace(direction, name=f"{kind}:{i}") for i, direction in enumerate(kept)]
