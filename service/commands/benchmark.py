"""``creps benchmark``: speed beside the reference and beside the machine's limits."""

import importlib
from collections.abc import Sequence

from model.arguments import ArgumentParser

BENCHMARKS = {
    "render": "kernels.benchmark.render",
    "compile": "kernels.benchmark.compile",
    "train": "model.training.benchmark",
    "serve": "service.benchmark.serve",
}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark named by the first argument."""
    parser = ArgumentParser(prog="creps benchmark", description="Speed beside the reference and the machine's limits.")
    parser.add_argument("benchmark", choices=BENCHMARKS, help="creps benchmark render --help tells what it takes")
    benchmark = importlib.import_module(BENCHMARKS[parser.parse_args(arguments[:1]).benchmark])
    benchmark.main(arguments[1:])
