"""Smileys composed from parts, of a package of drawn ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.demo import compose
from model.demo.compose import EYES, MOUTHS, WIDE_EYES, Parts, change_hue, read_parts
from tests.model.demo.smileys import RADIUS, draw_sphere, write_assets

pytestmark = pytest.mark.xdist_group("smileys")  # which are taken apart once


@pytest.fixture(name="assets", scope="module")
def _assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(name="parts", scope="module")
def _parts(assets: Path) -> Parts:
    return read_parts(assets)


@pytest.mark.slow
def test_the_sphere_is_found_and_parts_lie_on_their_halves(parts: Parts) -> None:
    inside = RADIUS < 110
    assert np.abs(parts.sphere - draw_sphere())[inside].max() < 0.04
    assert len(parts.eyes) == len(EYES) + len(WIDE_EYES)
    assert len(parts.mouths) == len(MOUTHS)
    for part in parts.eyes[: len(EYES)]:
        rows, columns = np.nonzero(part.mask > 0.5)
        assert 80 < rows.min() < 95
        assert 105 < rows.max() < 120
        assert np.ptp(columns) > 60
    for part in parts.mouths:
        assert np.nonzero(part.mask > 0.5)[0].min() > 140


def test_hues_turn_and_greys_stay() -> None:
    yellow = np.array([[[1.0, 0.85, 0.2]]], np.float32)
    assert change_hue(yellow, 90, 1, 1) == pytest.approx(yellow, abs=0.01)
    red, green, blue = (change_hue(yellow, hue, 1, 1)[0, 0] for hue in (30, 140, 265))
    assert [colour.argmax() for colour in (red, green, blue)] == [0, 1, 2]
    grey = np.full((1, 1, 3), 0.5, np.float32)
    turned = change_hue(grey, 265, 1, 1)[0, 0]
    assert np.ptp(turned) < 0.01


@pytest.mark.slow
def test_blue_smileys_have_no_yellow_fringes(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "PLAIN_SHARE", 0.0)
    random = np.random.default_rng(0)
    monkeypatch.setattr(compose, "change_hue", lambda colours, *_: change_hue(colours, 265.0, 1.0, 1.0))
    for _ in range(4):
        red, green, blue = np.moveaxis(np.asarray(compose.compose(parts, random)).astype(int), 2, 0)
        assert (np.minimum(red, green) - blue).max() < 30
        assert (red[:5] == 255).all()


@pytest.mark.slow
def test_the_command_writes_images_of_its_seed(assets: Path, parts: Parts, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model.demo.compose", str(assets), str(tmp_path / "a")]
    subprocess.run([*command, "--count", "20", "--seed", "5"], check=True)
    written = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in written] == [f"{number:06d}.png" for number in range(20)]
    for number in (0, 1, 19):
        expected = compose.compose(parts, np.random.default_rng((5, number)))
        with Image.open(written[number]) as image:
            assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert len({path.read_bytes() for path in written}) == 20
