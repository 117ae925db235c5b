"""Training with patches: which part of its image each row of a batch shows, and where its pixels lie.

An image is resized to s·R pixels a side, and a patch of R×R of them is shown (Chai et al. 2022, arXiv:2204.07156). A
CREPS network draws a patch by its positions alone. It stays one function of position, which learns from patches detail
that is finer than the pixels of whole images, and needs no input of the scale.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.dataset import ImageDataset
from model.data.pyramid import Patch
from model.errors import InputError
from model.training.config import TrainingConfig
from model.training.synthesis import TrainingSynthesis

STREAM = 0x7061_7463
"""Distinguishes the random numbers of patches from those of the order of images."""


def choose_patches(config: TrainingConfig, sides: Sequence[int], first: int) -> list[Patch]:
    """The part that each image of a batch shows: whole images first, then patches of log-uniform scales.

    The scale is at most ``max_scale``, and the image's own size. The choice follows from the seed and ``first``.

    Args:
        sides: of the batch's images in pixels, at least R.
        first: number of images that were shown before.
    """
    resolution = config.generator.resolution
    numbers = np.random.default_rng((config.seed, first, STREAM)).random((len(sides), 3)).tolist()
    patches = []
    for i, (available, (u, u_x, u_y)) in enumerate(zip(sides, numbers, strict=True)):
        largest = 1.0 if i < config.whole_images else min(available / resolution, config.generator.max_scale)
        side = round(resolution * largest**u)
        patches.append(Patch(side, int(u_x * (side - resolution + 1)), int(u_y * (side - resolution + 1))))
    return patches


def samples_per_pixel(config: TrainingConfig, patch: Patch) -> int:
    """m: a pixel of the patch is the mean of m×m samples of the network, which has detail of ``max_scale``.

    m = ⌈max_scale / s⌉, at most ``supersampling``, for scales s below half of ``max_scale``. Without it, images would
    have aliases of the detail, and the discriminator would punish it.
    """
    ratio = config.generator.max_scale * config.generator.resolution / patch.side
    return min(math.ceil(ratio - 1e-9), config.supersampling) if ratio > 2 else 1


def patch_positions(
    patches: Sequence[Patch], resolution: int, samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Network coordinates u of the rows and columns of patches, [N, R·m] each, on the ``centers`` grid.

    a = (x + (i + ½)/m) / n and u = (a·R − ½)/(R − 1), as in model/viewport.py for an image of n pixels a side.
    """
    offsets = (np.arange(resolution * samples) + 0.5) / samples
    sides = np.array([[patch.side] for patch in patches])

    def locate(starts: list[int]) -> NDArray[np.float64]:
        a: NDArray[np.float64] = (np.array(starts)[:, None] + offsets) / sides
        return (a * resolution - 0.5) / (resolution - 1)

    return locate([patch.y for patch in patches]), locate([patch.x for patch in patches])


def draw_patches(synthesize: TrainingSynthesis, ws: Tensor, patches: Sequence[Patch], config: TrainingConfig) -> Tensor:
    """Styles [N, num_ws, w_dim] → a patch of each image, [N, 3, R, R]. Patches of equal m are drawn together."""
    groups = defaultdict(list)
    for i, patch in enumerate(patches):
        groups[samples_per_pixel(config, patch)].append(i)
    images, order = [], []
    for samples, indices in groups.items():
        positions = patch_positions([patches[i] for i in indices], config.generator.resolution, samples)
        rows, columns = (torch.from_numpy(axis).to(ws.device) for axis in positions)
        images.append(synthesize(ws[indices], (rows, columns), samples))
        order += indices
    return torch.cat(images)[sorted(range(len(order)), key=order.__getitem__)]


def place_of(patches: Sequence[Patch], resolution: int) -> NDArray[np.float32]:
    """What the discriminator is told of patches: log₂ s and the centre (x, y) in the unit square, [N, 3]."""
    values = [(math.log2(n / resolution), (x + resolution / 2) / n, (y + resolution / 2) / n) for n, x, y in patches]
    return np.array(values, np.float32)


def check_patches(config: TrainingConfig, dataset: ImageDataset) -> None:
    """Raises InputError unless batches have whole images and patches, and the data images that are large enough."""
    if not config.patches:
        return
    if not 0 < config.whole_images < config.batch:
        raise InputError("whole", f"{config.whole:g} leaves a batch of {config.batch} without whole images or patches")
    resolution, largest = config.generator.resolution, max(dataset.sides)
    if not dataset.keeps_sizes or largest == resolution:
        advice = f"creps dataset ORIGINALS NEW.zip --keep-size --resolution {resolution} keeps their own"
        raise InputError("data", f"has images of {resolution}² only, but patches take larger ones; {advice}")
    if largest < config.generator.max_scale * resolution:
        raise InputError(
            "max_scale",
            f"must be at most {largest / resolution:g}, not {config.generator.max_scale:g}: the largest image of the "
            f"data has {largest} pixels a side",
        )


def describe_patches(config: TrainingConfig) -> str:
    """One line for the log."""
    resolution, scale = config.generator.resolution, config.generator.max_scale
    whole, rest = config.whole_images, config.batch - config.whole_images
    sizes = f"{resolution}² to {round(resolution * scale)}²"
    return (
        f"patches: {rest} of {config.batch} images are parts of images of {sizes}, "
        f"{whole} whole ones, with up to {config.supersampling}×{config.supersampling} samples a pixel"
    )
