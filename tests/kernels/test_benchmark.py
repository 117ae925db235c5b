"""The benchmark runs from the command line, and with nothing but torch, numpy and safetensors installed."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from kernels.benchmark import cuda
from kernels.benchmark.chart import draw_chart
from kernels.benchmark.figures import LeftOut, Measurement, make_measurement, render_text
from kernels.benchmark.plain import Reference, reference_name
from kernels.benchmark.targets import check_targets
from kernels.precision import Agreement
from model.config import PRESETS
from model.viewport import Viewport
from service.cli import main
from tests.kernels.networks import TINY, random_network

SUBMODULES = "kernels.renderer", "kernels.benchmark.render", "kernels.benchmark.cpu"

ON_A_BARE_GPU = (
    "kernels.benchmark.compile",
    "kernels.benchmark.__main__",
    "kernels.benchmark.render",
    "kernels.benchmark.cuda",
)

ABSENT = "tqdm", "imagecodecs", "PIL", "pydantic", "fastapi", "redis", "prometheus_client", "tensorboard", "service"


def test_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main(["benchmark", "render", "--device=cpu", "--preset=tiny-32", "--size=96x40", f"--json={report}"]) == 0
    output = capfd.readouterr().out
    assert all(word in output for word in ("96×40", "cpu", "reference", "peak MiB", "GFLOP/s"))
    figures = json.loads(report.read_text())
    assert figures["size"] == [96, 40]
    assert figures["config"]["resolution"] == 32
    assert figures["matrix_gflops"] > 0
    assert [measured["backend"] for measured in figures["measurements"]] == ["cpu", "reference"]
    for measured in figures["measurements"]:
        assert measured["pixels_seconds"] > 0
        assert measured["gflops"] > 0
        assert 50 < measured["peak_mib"] < 5000


@pytest.mark.parametrize(
    "options", ["--preset=huge", "--size=0x5", "--size=5", "--chart=a.png", "--backends=cpu,gpu", "--backends="]
)
def test_mistakes_are_one_line(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["benchmark", "render", "--device=cpu", options]) == 2
    except SystemExit as exit_:
        assert exit_.code == 2  # noqa: PT017
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("modules", "absent"),
    [(SUBMODULES, ABSENT), (ON_A_BARE_GPU, (*ABSENT, "safetensors", "matplotlib"))],
    ids=["cpu", "gpu"],
)
def test_needs_no_other_package(modules: tuple[str, ...], absent: tuple[str, ...]) -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(modules)}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


class TestGpu:
    """What is made of a GPU's measurements. The figures are made up."""

    def measurement(self, contestant: str, side: int, milliseconds: float, batch: int = 1) -> Measurement:
        times = milliseconds, 0.9 * milliseconds, 1.2 * milliseconds
        return Measurement(contestant, side, side, batch, times, None, None, 357_184 * side**2 * batch, 700 * 2**20)

    @pytest.fixture
    def measurements(self) -> list[Measurement]:
        return [
            self.measurement("triton", 512, 0.75),
            self.measurement("triton", 512, 6.0, batch=8),
            self.measurement("triton", 4096, 16.0),
            self.measurement("triton", 32768, 1200.0),
            self.measurement("eager fp32", 4096, 256.0),
            self.measurement("compiled fp16", 4096, 32.0),
        ]

    @pytest.fixture
    def report(self, measurements: list[Measurement]) -> dict[str, Any]:
        return {
            "date": "2026-01-01",
            "gpu": "a GPU",
            "torch": "2",
            "triton": "3",
            "cuda": "13",
            "network": "creps-512",
            "config": PRESETS["creps-512"].to_dict(),
            "pixel_flops": 357_184,
            "line_flops": 170_000_000,
            "matrix_teraflops": 800.0,
            "copy_gigabytes": 4000.0,
            "precision": [asdict(Agreement("fp16", 3, 0.1, 58.0))],
            "demo_precision": [asdict(Agreement("fp16×3", 0, 0.0, 130.0))],
            "measurements": [asdict(m) | {"gigapixels": m.gigapixels} for m in measurements],
            "left_out": [asdict(LeftOut("eager fp32 32768×32768, batch 1", "out of memory"))],
        }

    @pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 3)])
    def test_the_plain_network_in_bands(self, factors: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kernels.benchmark.plain.REFERENCE_PIXELS", 300)
        generator = random_network(TINY)
        rows, columns = (
            torch.linspace(0, 1, n * m, dtype=torch.float64) for n, m in zip((20, 13), factors, strict=True)
        )
        ws = torch.randn(3, TINY.num_ws, TINY.w_dim)
        reference = Reference(generator, autocast=False, compiled=False)
        assert reference.band(3, len(columns), factors[0]) < len(rows)
        found = reference.draw(ws, rows, columns, factors)
        colours = torch.nn.functional.avg_pool2d(generator.synthesis(ws, rows, columns), factors).permute(0, 2, 3, 1)
        difference = found.int() - (colours * 127.5 + 128).clamp(0, 255).int()
        assert found.shape == (3, 20, 13, 3)
        assert int(difference.abs().max()) <= 1

    def test_work_includes_what_is_averaged(self) -> None:
        config = PRESETS["creps-512"]
        small, whole = (
            make_measurement("triton", config, Viewport.resolve(side, side), 1, (1.0, 1.0, 1.0), 0)
            for side in (256, 512)
        )
        assert small.flops == whole.flops == 2 * (1024 * config.line_macs + 512**2 * config.pixel_macs)

    def test_what_fails_or_takes_too_long_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The compiled network cannot be made, and the eager one takes a millisecond for 512 pixels."""

        def measure(reference: str, viewport: Viewport, batch: int) -> Measurement:
            if reference.startswith("compiled"):
                raise RuntimeError("no compiler\nand more")
            milliseconds = viewport.pixels * batch / 512
            return make_measurement(reference, TINY, viewport, batch, (milliseconds,) * 3, 0)

        monkeypatch.setattr(cuda, "Reference", lambda _, **options: reference_name(**options))
        monkeypatch.setattr(cuda, "measure_reference", measure)
        found = list(cuda._measure_references(random_network(TINY), [(side, side) for side in cuda.SIDES]))
        told = [str(result) for result in found if isinstance(result, LeftOut)]
        eager = [f"{name} {side}×{side}, batch 1" for name in ("eager fp32", "eager fp16") for side in (4096, 32768)]
        measured = {result.name for result in found if isinstance(result, Measurement)}
        assert measured >= {eager[0], eager[2], "eager fp16 1024×1024, batch 8"}
        assert f"{eager[1]}: left out, it would take eager fp32 more than 80 s in all" in told
        assert f"{eager[3]}: left out, it would take eager fp16 more than 80 s in all" in told
        assert "compiled fp16 4096×4096, batch 1: left out, no compiler" in told
        assert len(found) == 2 * (len(cuda.SIDES) + len(cuda.BATCH_SIDES)) + 2 * len(cuda.COMPILED_SIDES)

    def test_eight_large_pictures_are_not_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def measure(network: object, viewport: Viewport, batch: int) -> Measurement:
            if viewport.width > 9000:
                raise RuntimeError("CUDA error: out of memory")
            return make_measurement("triton", TINY, viewport, batch, (1.0, 1.0, 1.0), 0)

        monkeypatch.setattr(cuda, "measure_kernels", measure)
        network: Any = None
        found = list(cuda._measure_kernels(network, [(512, 2048), (1024, 2048), (9999, 9)]))
        assert [result.name for result in found] == [
            "triton 512×2048, batch 1",
            "triton 1024×2048, batch 1",
            "triton 9999×9, batch 1",
            "triton 512×2048, batch 8",
            "triton 9999×9, batch 8",
        ]
        assert [isinstance(result, LeftOut) for result in found] == [False, False, True, False, True]

    def test_rates(self, measurements: list[Measurement]) -> None:
        assert measurements[2].gigapixels == pytest.approx(4096**2 / 16e-3 / 1e9)
        assert measurements[2].teraflops == pytest.approx(357_184 * 4096**2 / 16e-3 / 1e12)

    def test_targets(self, measurements: list[Measurement]) -> None:
        demo = [Agreement("fp16", 2, 0.1, 71.0), Agreement("fp16×3", 1, 0.0, 130.0)]
        told = check_targets(measurements, demo)
        assert told == [
            "met: 4096×4096: 1.049 Gpixel/s, to be >= 1",
            "MISSED: 32768×32768: 0.8948 Gpixel/s, to be >= 1",
            "met: 4096×4096 over eager fp32: 16 times, to be >= 15",
            "MISSED: 4096×4096 over compiled fp16: 2 times, to be >= 2.5",
            "met: 512×512: 0.75 ms, to be < 1",
            "MISSED: 512×512, eight at a time: 1333 pictures/s, to be >= 1500",
            "met: 32768×32768 beside the output: 700 MiB, to be < 1024",
            "met: demo in fp16×3, from fp64: 1 levels, to be <= 1",
            "met: demo in fp16×3, from fp64: 130 dB, to be >= 60",
        ]

    def test_text(self, report: dict[str, Any], measurements: list[Measurement]) -> None:
        measurements[2] = replace(measurements[2], pixels_milliseconds=15.0)
        measurements[4] = replace(measurements[4], bands=4)
        text = render_text(report, measurements, ["met: all"])
        (line,) = (line for line in text.splitlines() if "4096×4096" in line and line.startswith("triton"))
        assert line.split()[2:6] == ["1", "16.000", "14.400", "19.200"]
        assert line.split()[6:8] == ["1.000", "15.000"]  # lines, pixels
        assert "1048.6" in line
        assert "46.8%" in line  # 374.5 of 800 TFLOP/s
        (plain,) = (line for line in text.splitlines() if line.split()[:3] == ["eager", "fp32", "4096×4096"])
        assert plain.split()[-1] == "4"
        assert "eager fp32 32768×32768, batch 1: left out, out of memory" in text
        assert "fp16: at most 3 of 255 levels" in text
        assert text.endswith("met: all")

    def test_chart(self, report: dict[str, Any], tmp_path: Path) -> None:
        draw_chart(report, tmp_path / "chart.png")
        with Image.open(tmp_path / "chart.png") as picture:
            assert picture.format == "PNG"
            assert picture.size == (1350, 825)
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 100

    def test_without_matplotlib_there_is_no_chart(
        self,
        report: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        draw_chart(report, tmp_path / "chart.png")
        assert not (tmp_path / "chart.png").exists()
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["benchmark", "render", "--device=cuda"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "creps benchmark: error: --device: cuda is not there: torch sees no GPU"
