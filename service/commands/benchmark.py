"""``creps benchmark``: speed beside the reference."""

from collections.abc import Sequence

import kernels.benchmark
from model.arguments import ArgumentParser

BENCHMARKS = {"render": kernels.benchmark.main}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark named by the first argument."""
    parser = ArgumentParser(prog="creps benchmark", description="Speed beside the reference and the machine's limits.")
    parser.add_argument("benchmark", choices=BENCHMARKS, help="creps benchmark render --help tells what it takes")
    BENCHMARKS[parser.parse_args(arguments[:1]).benchmark](arguments[1:])
