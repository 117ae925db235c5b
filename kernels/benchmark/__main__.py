"""``python -m kernels.benchmark render|compile``, for machines where the service is not installed."""

import sys

from kernels.benchmark import compile as compile_benchmark
from kernels.benchmark import render
from model.arguments import run

BENCHMARKS = {"render": render.main, "compile": compile_benchmark.main}

if __name__ == "__main__":
    name, arguments = "render", sys.argv[1:]
    if arguments and arguments[0] in BENCHMARKS:
        name, arguments = arguments[0], arguments[1:]
    sys.exit(run(f"python -m kernels.benchmark {name}", BENCHMARKS[name], arguments))
