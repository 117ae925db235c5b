"""Directions without labels: SeFa and PCA."""

import dataclasses
import functools
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

import model.latents.direction_files
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.generator import Generator
from model.latents.direction import Direction
from model.latents.direction_files import load_directions
from model.latents.directions import MIN_EFFECT, MIN_RATIO, affines_of_styles, find_directions
from model.latents.effects import Effects
from model.latents.latent import Edit, Latent, Weighted, pack_floats
from model.spec import RenderSpec
from model.viewport import Viewport
from tests.kernels.networks import TINY, random_checkpoint, random_network

pytestmark = pytest.mark.xdist_group("directions")  # which are found once


def biased_network() -> Generator:
    """A network that depends on some directions of w much more than on others, as trained ones do."""
    generator = random_network(TINY)
    scale = torch.full((TINY.w_dim,), 0.2)
    scale[:3] = torch.tensor([9.0, 6.0, 3.0])
    for affines in affines_of_styles(generator):
        for affine in affines:
            affine.weight.mul_(scale)
    return generator


@functools.cache
def found() -> tuple[Direction, ...]:
    return tuple(find_directions(biased_network()))


def test_they_are_orthonormal() -> None:
    def group(direction: Direction) -> tuple[str, tuple[int, ...]]:
        return direction.name.split(":")[0], direction.layers

    assert {direction.name.split(":")[0] for direction in found()} == {"sefa", "pca"}
    for _, directions in groupby(sorted(found(), key=group), group):
        axes = np.array([direction.axis for direction in directions])
        np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-9)


def test_names_are_in_order_of_effect() -> None:
    for kind in ("sefa", "pca"):
        directions = [direction for direction in found() if direction.name.startswith(kind)]
        assert [direction.name for direction in directions] == [f"{kind}:{i}" for i in range(len(directions))]
        effects = [direction.effect for direction in directions]
        assert effects == sorted(effects, reverse=True)
        assert min(effects) >= MIN_EFFECT


def test_each_changes_the_image_more_than_other_random_directions() -> None:
    effects = Effects(biased_network(), length=1.0)
    random = np.random.RandomState(9).randn(8, TINY.w_dim)
    for direction in found():
        assert direction.ratio >= MIN_RATIO
        ratios = [effects.ratio(axis / np.linalg.norm(axis), direction.layers) for axis in random]
        assert effects.ratio(direction.axis, direction.layers) > np.mean(ratios)


def test_they_do_not_depend_on_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        others = find_directions(biased_network())
    finally:
        torch.set_num_threads(before)
    assert [each.name for each in found()] == [each.name for each in others]
    for one, other in zip(found(), others, strict=True):
        np.testing.assert_allclose(one.axis, other.axis, atol=1e-6)
        np.testing.assert_allclose(one.sigma, other.sigma, rtol=1e-6)


def test_a_conditional_network_has_the_directions_within_its_classes() -> None:
    generator = random_network(dataclasses.replace(TINY, classes=3))
    directions = model.latents.directions.sample_w(generator)
    classes = np.arange(len(directions)) % 3
    for index in range(3):
        np.testing.assert_allclose(directions[classes == index].mean(0), 0, atol=1e-9)


class TestFiles:
    @pytest.fixture
    def checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        self.computed = 0

        def compute(_: Generator) -> list[Direction]:
            self.computed += 1
            return list(found())

        monkeypatch.setattr(model.latents.direction_files, "find_directions", compute)
        return random_checkpoint(tmp_path)

    def test_computed_once(self, checkpoint: Checkpoint) -> None:
        first, again = load_directions(checkpoint), load_directions(checkpoint)
        assert self.computed == 1
        assert list(first) == list(again) == [direction.name for direction in found()]
        for name in first:
            np.testing.assert_array_equal(first[name].axis, again[name].axis)
            assert dataclasses.replace(first[name], axis=again[name].axis).sigma == again[name].sigma
            assert first[name].layers == again[name].layers

    def test_kept_in_the_cache_where_the_folder_is_read_only(
        self, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, content: bytes) -> None:
            if path.parent == tmp_path:
                raise PermissionError(path)
            path.parent.mkdir(parents=True)
            path.write_bytes(content)

        monkeypatch.setattr(model.latents.direction_files, "write_atomically", refuse)
        load_directions(checkpoint)
        load_directions(checkpoint)
        assert self.computed == 1
        assert [path.name for path in (tmp_path / "cache/creps").iterdir()] == [f"directions1-{checkpoint.digest}.npz"]

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
    def test_damaged_files_are_replaced(self, content: bytes, checkpoint: Checkpoint, tmp_path: Path) -> None:
        load_directions(checkpoint)
        (path,) = tmp_path.glob("*.npz")
        path.write_bytes(content)
        load_directions(checkpoint)
        load_directions(checkpoint)
        assert self.computed == 2

    def test_names_stand_for_their_vectors(self, checkpoint: Checkpoint) -> None:
        renderer, viewport = Renderer(checkpoint, "cpu", threads=1), Viewport.resolve(16, 16)
        direction = found()[0]

        def draw(latent: Latent) -> bytes:
            return renderer.render(RenderSpec("m", latent, viewport)).tobytes()

        named = Latent(seed=1, edits=(Edit(direction.name, 2),))
        given = Latent(seed=1, edits=(Edit(pack_floats(direction.vector), 2, direction.layers),))
        assert draw(named) == draw(given) == draw(Latent(mix=(Weighted(named),)))
        assert draw(named) != draw(Latent(seed=1))
        with pytest.raises(InputError, match=r"no direction 'sefa:99'; it has sefa:0, "):
            draw(Latent(seed=1, edits=(Edit("sefa:99", 1),)))
