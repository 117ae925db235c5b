"""The command line. Every step runs in a process of its own: an error of CUDA lasts until its process ends."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any

from kernels.first_run import ON_GPU
from kernels.first_run.steps import PARTS, STEPS, NotAvailableError, Result
from model.config import PRESETS
from model.util.arguments import ArgumentParser, run, some_of
from model.util.files import write_json

ROOT = Path(__file__).parents[2]

CHILD = (sys.executable, "-m", "kernels.first_run")

PRINTED = 600
"""Characters of a result that are printed; the file has all."""


def main(arguments: Sequence[str]) -> None:
    """Run the steps, print a line for each and write the results after each. Exits with status 1 if one failed."""
    parser = ArgumentParser(prog="python -m kernels.first_run", description="First run of the kernels on a GPU.")
    parser.add_argument("--preset", default="creps-512", choices=PRESETS, help="the network (default: creps-512)")
    parser.add_argument("--steps", type=some_of(STEPS), metavar="LIST", default=tuple(STEPS), help=", ".join(STEPS))
    parser.add_argument("--json", type=Path, default=Path("first_run.json"), metavar="FILE", help="written as it goes")
    parser.add_argument("--child", choices=[*STEPS, *PARTS], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        print(json.dumps(attempt(options.child, options.preset)))
        return
    results: dict[str, Result] = {}
    for name in options.steps:
        print(f"{name} …", file=sys.stderr, flush=True)
        started = time.perf_counter()
        result = run_in_child(name, options.preset) if ON_GPU else attempt(name, options.preset)
        results[name] = {**result, "seconds": round(time.perf_counter() - started, 1)}
        write_json(options.json, results)
        print(f"{name}: {'FAILED ' if failed(result) else ''}{json.dumps(results[name])[:PRINTED]}", flush=True)
    if any(map(failed, results.values())):
        raise SystemExit(1)


def run_in_child(name: str, preset: str) -> Result:
    """The result of a step in a process of its own, which may fail or hang."""
    command = [*CHILD, "--child", name, "--preset", preset]
    limit = STEPS[name].seconds
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(  # noqa: S603
        command, env=environment, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True
    ) as child:
        try:
            output, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # also what it has started
            return {"error": f"took more than {limit:g} s"}
    try:
        result: Result = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"ended with status {child.returncode}", "output": errors[-3000:]}
    return result


def attempt(name: str, preset: str) -> Result:
    """The result of a step, or its error."""
    try:
        return (STEPS | PARTS)[name].run(preset)
    except (NotAvailableError, ImportError) as reason:
        return {"not available": str(reason)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "output": traceback.format_exc()[-3000:]}


def failed(result: Any) -> bool:
    """Whether any part of a result has an error, or has not passed."""
    if not isinstance(result, dict):
        return False
    return "error" in result or result.get("passes") is False or any(map(failed, result.values()))


if __name__ == "__main__":
    sys.exit(run("python -m kernels.first_run", main, sys.argv[1:]))
