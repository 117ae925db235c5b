"""Command lines: no abbreviations, and a suggestion for what is misspelt or called otherwise in StyleGAN's tools."""

import subprocess
import sys

import pytest

from model.util.arguments import run
from service.cli import main


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        ("train --outdir run --cfg auto", "unrecognized argument --cfg; did you mean --preset?"),
        ("train --preset tiny-32 --kimg=5", "unrecognized argument --kimg; did you mean --total-kimg?"),
        ("train --preset tiny-32 --snap 1", "unrecognized argument --snap; did you mean --snapshot-kimg, which counts"),
        ("train --preset tiny-32 --resume a.pkl", "unrecognized argument --resume; did you mean --transfer (a stopped"),
        ("train --preset tiny-32 --mirror 1", "--mirror takes no value; did you mean --mirror or --no-mirror?"),
        ("train --preset tiny-32 --mirror true", "--mirror takes no value; did you mean --mirror or --no-mirror?"),
        ("train --preset tiny-32 --gama 1", "unrecognized argument --gama; did you mean --gamma?"),
        ("train --preset tiny-32 --path 1", "did you mean --path-length-weight or --path-length-interval?"),
        ("train --preset tiny-32 --seed 4294967296 --dry-run", "seed: must be from 0 to 4294967295, not 4294967296"),
        ("dataset --source a --dest b.zip", "unrecognized argument --source; did you mean SOURCE, the first argument?"),
        ("render demo --seeds 0-3", "seeds: need --outdir DIR for files or --sheet"),
        ("render demo --trunc 0.7", "unrecognized argument --trunc; did you mean --psi?"),
        ("render demo --qual 90", "unrecognized argument --qual; did you mean --quality?"),
        ("render demo --nothing", "unrecognized arguments: --nothing"),
    ],
)
def test_options_are_suggested(capsys: pytest.CaptureFixture[str], command: str, suggestion: str) -> None:
    try:
        status = main(command.split())
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert suggestion in printed
    assert len(printed.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As head in ``creps info demo | head``."""
    code = "import sys; from model.util.arguments import run; sys.exit(run('creps', lambda _: print('a' * 10**7), []))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_another_broken_pipe_is_an_error() -> None:
    def lose_a_child(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run("creps", lose_a_child, [])
