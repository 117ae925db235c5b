"""The benchmark runs from the command line, and with only torch, numpy and safetensors installed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from kernels.accuracy import AccuracyReport
from kernels.benchmark import cuda
from kernels.benchmark.chart import draw_chart
from kernels.benchmark.naive_baseline import NaiveBaseline
from kernels.benchmark.report import Measurement, Report, Skipped, count_flops
from kernels.benchmark.thresholds import check_thresholds
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


@pytest.mark.slow
def test_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    assert main(["benchmark", "render", "--device=cpu", "--preset=tiny-32", "--size=96x40", f"--json={path}"]) == 0
    output = capfd.readouterr().out
    assert all(word in output for word in ("96×40", "cpu", "reference", "peak MiB", "TFLOP/s", "memory ×"))
    report = json.loads(path.read_text())
    assert report["config"]["resolution"] == 32
    assert report["matrix_teraflops"] > 0
    assert [m["variant"] for m in report["measurements"]][-2:] == ["cpu", "reference"]
    for measured in report["measurements"]:
        assert (measured["width"], measured["height"]) == (96, 40)
        assert measured["pixels_milliseconds"] > 0
        assert measured["milliseconds"] > 0
        assert measured["teraflops"] > 0
        assert 50 < measured["peak_bytes"] / 2**20 < 5000


@pytest.mark.slow
def test_transformed_images_beside_plain_ones(capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--device=cpu", "--preset=tiny-32", "--size=48x48", "--backends=cpu", '--transform=[{"rotate": 30}]']
    assert main(["benchmark", "render", *options]) == 0
    output = capfd.readouterr().out
    assert "cpu, transformed" in output
    assert "by plain, round by round" in output
    assert "reference" not in output


@pytest.mark.parametrize(
    "options",
    [
        "--preset=huge",
        "--transform=[{}]",
        "--size=0x5",
        "--size=5x",
        "--chart=a.png",
        "--kernels-only",
        "--backends=cpu,gpu",
        "--backends=",
    ],
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
    """Reports of a GPU, with invented measurements."""

    def measurement(self, variant: str, side: int, milliseconds: float, batch: int = 1) -> Measurement:
        flops, spread = 357_184 * side**2 * batch, (0.9 * milliseconds, 1.2 * milliseconds)
        return Measurement(variant, side, side, batch, milliseconds, flops, 700 * 2**20, spread)

    @pytest.fixture
    def report(self) -> Report:
        return Report(
            network="creps-512",
            config=PRESETS["creps-512"],
            device="a GPU",
            matrix_teraflops=800.0,
            copy_gigabytes=4000.0,
            measurements=[
                self.measurement("triton", 512, 0.75),
                self.measurement("triton", 512, 6.0, batch=8),
                replace(self.measurement("triton", 4096, 16.0), pixels_milliseconds=15.0, device_milliseconds=15.5),
                self.measurement("triton", 32768, 1200.0),
                replace(self.measurement("eager fp32", 4096, 256.0), bands=4),
                self.measurement("compiled fp16", 4096, 32.0),
            ],
            skipped=[Skipped("eager fp32 32768×32768, batch 1", "out of memory")],
            precision=[AccuracyReport("fp16", 3, 0.1, 58.0)],
            demo_precision=[AccuracyReport("fp16", 2, 0.1, 71.0), AccuracyReport("fp16×3", 1, 0.0, 130.0)],
        )

    @pytest.mark.parametrize("size", [(40, 18), (13, 20), (8, 5)])
    def test_the_baseline_in_bands(self, size: tuple[int, int]) -> None:
        generator, viewport = random_network(TINY), Viewport.resolve(*size)
        m_x, m_y = factors = viewport.supersampling(TINY.resolution)
        ws = torch.randn(3, TINY.num_ws, TINY.w_dim)
        baseline = NaiveBaseline(generator, band_pixels=300)
        assert baseline.band(3, viewport) < viewport.height * m_y
        rows = torch.from_numpy(viewport.rows(0, viewport.height * m_y, TINY.resolution, m_y))
        columns = torch.from_numpy(viewport.columns(0, viewport.width * m_x, TINY.resolution, m_x))
        colours = torch.nn.functional.avg_pool2d(generator.synthesis(ws, rows, columns), factors[::-1])
        levels = (colours.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).int()
        assert int((baseline.render(ws, viewport).int() - levels).abs().max()) <= 1

    def test_flops_include_supersampling(self) -> None:
        config = PRESETS["creps-512"]
        small, whole = (count_flops(config, Viewport.resolve(side, side)) for side in (256, 512))
        assert small == whole == 2 * (1024 * config.line_macs + 512**2 * config.pixel_macs)

    def test_what_fails_or_takes_too_long_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The compiled baseline fails, and the eager one takes a millisecond for 512 pixels."""

        def measure(name: str, viewport: Viewport, batch: int) -> Measurement:
            if name.startswith("compiled"):
                raise RuntimeError("no compiler\nand more")
            return Measurement(name, viewport.width, viewport.height, batch, viewport.pixels * batch / 512, 0, 0)

        monkeypatch.setattr(cuda, "NaiveBaseline", lambda _, variant: variant)
        monkeypatch.setattr(cuda, "measure_baseline", measure)
        found = list(cuda._measure_baselines(random_network(TINY), [(side, side) for side in cuda.SIDES]))
        skipped = {result.name: result.reason for result in found if isinstance(result, Skipped)}
        measured = {result.name for result in found if isinstance(result, Measurement)}
        for variant in ("eager fp32", "eager fp16"):
            assert f"{variant} 4096×4096, batch 1" in measured
            assert "more than 80 s" in skipped[f"{variant} 32768×32768, batch 1"]
        assert skipped["compiled fp16 4096×4096, batch 1"] == "no compiler"
        assert len(found) == 2 * (len(cuda.SIDES) + len(cuda.BATCH_SIDES)) + 3 * len(cuda.COMPILED_SIDES)

    @pytest.fixture
    def without_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand-ins for a GPU, on which batches fail."""

        def measure(model: object, viewport: Viewport, batch: int) -> Measurement:
            if batch > 1:
                raise RuntimeError("the GPU is gone")
            return Measurement(str(model), viewport.width, viewport.height, batch, 1.0, 1, 1)

        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
        monkeypatch.setattr("torch.nn.Module.cuda", lambda module: module)
        for function in ("matrix_teraflops", "copy_gigabytes"):
            monkeypatch.setattr(cuda, function, lambda: 1.0)
        monkeypatch.setattr(cuda, "measure_accuracy", lambda generator, configs: [])
        monkeypatch.setattr(cuda, "PackedModel", lambda generator, config, parts: "triton")
        monkeypatch.setattr(cuda, "NaiveBaseline", lambda generator, variant: variant)
        monkeypatch.setattr(cuda, "measure_kernels", measure)
        monkeypatch.setattr(cuda, "measure_baseline", measure)
        monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)

    @pytest.mark.usefixtures("without_gpu")
    def test_json_is_written_after_each_measurement(self, tmp_path: Path) -> None:
        path = tmp_path / "report.json"
        with pytest.raises(RuntimeError, match="the GPU is gone"):
            main(["benchmark", "render", "--preset=tiny-32", f"--json={path}"])
        measured = json.loads(path.read_text())["measurements"]
        assert [m["width"] for m in measured] == list(cuda.SIDES)

    @pytest.mark.usefixtures("without_gpu")
    @pytest.mark.parametrize("kernels_only", [False, True])
    def test_baselines_can_be_left_out(self, kernels_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "BATCH_SIDES", (32,))  # no batches
        report = cuda.run_cuda(None, "tiny-32", (64, 64), kernels_only=kernels_only)
        assert [m.variant for m in report.measurements] == ["triton", *([] if kernels_only else cuda.BASELINES)]
        assert ("fp32 is without TF32" in str(report)) != kernels_only

    def test_tf32_is_a_variant_of_its_own(self) -> None:
        generator = random_network(TINY)
        for variant, precision in (("eager tf32", "high"), ("eager fp32", "highest"), ("eager fp16", "highest")):
            NaiveBaseline(generator, variant)
            assert torch.get_float32_matmul_precision() == precision

    def test_large_batches_are_not_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def measure(model: object, viewport: Viewport, batch: int) -> Measurement:
            if viewport.width > 9000:
                raise RuntimeError("CUDA error: out of memory")
            return Measurement("triton", viewport.width, viewport.height, batch, 1.0, 1, 1)

        monkeypatch.setattr(cuda, "measure_kernels", measure)
        model: Any = None
        found = list(cuda._measure_kernels(model, [(512, 2048), (1024, 2048), (9999, 9)]))
        assert [result.name for result in found] == [
            "triton 512×2048, batch 1",
            "triton 1024×2048, batch 1",
            "triton 9999×9, batch 1",
            "triton 512×2048, batch 8",
            "triton 9999×9, batch 8",
        ]
        assert [isinstance(result, Skipped) for result in found] == [False, False, True, False, True]

    def test_rates(self, report: Report) -> None:
        large = report.measurements[2]
        assert large.gigapixels == pytest.approx(4096**2 / 16e-3 / 1e9)
        assert large.teraflops == pytest.approx(357_184 * 4096**2 / 16e-3 / 1e12)

    def test_thresholds(self, report: Report) -> None:
        lines = check_thresholds(report)
        assert [line.split(",")[0] if "batch" not in line else line for line in lines] == [
            "met: 512×512: 0.75 ms",
            "MISSED: 512×512, batch 8: 1333 images/s, required >= 1500",
            "met: 4096×4096: 1.049 Gpixel/s",
            "MISSED: 32768×32768: 0.8948 Gpixel/s",
            "met: 32768×32768 without the output: 700 MiB",
            "met: 4096×4096 over eager fp32: 16 times",
            "MISSED: 4096×4096 over compiled fp16: 2 times",
            "met: demo in fp16×3: 1 levels",
            "met: demo in fp16×3: 130 dB",
        ]

    def test_text(self, report: Report) -> None:
        lines = str(report).splitlines()
        (large,) = (line.split() for line in lines if line.startswith("triton") and "4096×4096" in line)
        assert large[2:9] == ["1", "16.000", "14.400", "19.200", "1.000", "15.000", "15.500"]  # …, lines, pixels, GPU
        assert "1048.576" in large  # Mpixel/s
        assert "46.8%" in large  # 374.5 of 800 TFLOP/s
        (baseline,) = (line.split() for line in lines if line.split()[:3] == ["eager", "fp32", "4096×4096"])
        assert baseline[-3:] == ["4", "1.0", "1.00"]  # bands, speed ×, memory ×
        assert "eager fp32 32768×32768, batch 1: skipped, out of memory" in lines
        assert any(line.startswith("fp16: at most 3 of 255 levels") for line in lines)

    def test_json(self, report: Report) -> None:
        values = json.loads(json.dumps(report.to_dict()))
        assert values["pixel_flops"] == 357_184
        assert values["measurements"][2]["lines_milliseconds"] == 1.0
        assert values["skipped"] == [{"name": "eager fp32 32768×32768, batch 1", "reason": "out of memory"}]

    def test_chart(self, report: Report, tmp_path: Path) -> None:
        draw_chart(report, tmp_path / "chart.png")
        with Image.open(tmp_path / "chart.png") as image:
            assert image.format == "PNG"
            assert image.size == (1350, 825)
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100

    def test_without_matplotlib_there_is_no_chart(
        self, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        draw_chart(report, tmp_path / "chart.png")
        assert not (tmp_path / "chart.png").exists()
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["benchmark", "render", "--device=cuda"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--device" in line
