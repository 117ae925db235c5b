"""``creps benchmark``: speed compared with the reference and the machine's limits."""

import importlib
from collections.abc import Sequence

from model.util.arguments import ArgumentParser

BENCHMARKS = {
    "render": "kernels.benchmark.render",
    "compile": "kernels.benchmark.compile",
    "train": "model.training.profiling.benchmark",
    "patches": "service.benchmark.patches",
    "serve": "service.benchmark.serve",
    "capacity": "service.benchmark.capacity",
}


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark named by the first argument."""
    parser = ArgumentParser(prog="creps benchmark", description="Measures speed against the machine's limits.")
    parser.add_argument("benchmark", choices=BENCHMARKS, help="see creps benchmark render --help for its options")
    benchmark = importlib.import_module(BENCHMARKS[parser.parse_args(arguments[:1]).benchmark])
    benchmark.main(arguments[1:])
