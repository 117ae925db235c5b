"""``python -m kernels.benchmark render|compile``, for machines where the service is not installed."""

import importlib
import sys

from model.util.arguments import run

BENCHMARKS = ("render", "compile")

if __name__ == "__main__":
    name, arguments = "render", sys.argv[1:]
    if arguments and arguments[0] in BENCHMARKS:
        name, arguments = arguments[0], arguments[1:]
    module = importlib.import_module(f"kernels.benchmark.{name}")  # compiling needs Triton, a CPU's benchmark does not
    sys.exit(run(f"python -m kernels.benchmark {name}", module.main, arguments))
