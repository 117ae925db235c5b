"""``creps import`` and ``creps render`` together draw the pictures of the original tools."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.cli import main
from tests import golden_files, original_pickle
from tests.golden_files import Case

CASES = [
    (network, case)
    for network, case in golden_files.all_cases()
    # The rest mixes styles or gives them directly, or draws several seeds: the command line takes one seed.
    if not {"ws_seed", "mix_seed", "batch"} & case.asked.keys()
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("imported")
    paths = {}
    for network in golden_files.NETWORKS:
        golden = golden_files.load(network)
        source = original_pickle.write(folder / f"{network}.pkl", golden.state, golden.config)
        paths[network] = folder / f"{network}.safetensors"
        assert main(["import", str(source), str(paths[network])]) == 0
    return paths


def _options(case: Case) -> list[str]:
    """The case as options of ``creps render``."""
    asked = case.asked
    y0, y1, rows = asked.get("rows", (0, 1, asked.get("size")))
    x0, x1, columns = asked.get("cols", (0, 1, asked.get("size")))
    options = [f"--seed={asked['seed']}", f"--size={columns}x{rows}", f"--region={x0},{y0},{x1},{y1}"]
    for option, name in (("psi", "psi"), ("cutoff", "cutoff"), ("class", "label")):
        if name in asked:
            options.append(f"--{option}={asked[name]}")
    if "window" in asked:
        top, bottom, left, right = asked["window"]
        options.append(f"--crop={left},{top},{right - left},{bottom - top}")
    return options


@pytest.mark.parametrize(("network", "case"), CASES, ids=[case.name for _, case in CASES])
def test_images_are_those_of_the_original(
    network: str, case: Case, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "picture.png"
    arguments = [str(checkpoints[network]), *_options(case), "--grid=corners", "--device=cpu", f"--output={output}"]
    assert main(["render", *arguments]) == 0
    with Image.open(output) as image:
        found = np.asarray(image.convert("RGB"), dtype=int)
    (expected,) = case.uint8.astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
