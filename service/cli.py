"""The command line ``creps``. A command's module is imported only when it is asked for: not all need torch."""

import importlib
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from model.arguments import ArgumentParser, run
from model.errors import InputError

COMMANDS = {
    "serve": ("service.commands.serve", "gateway, worker and embedded queue, all in one"),
    "gateway": ("service.commands.gateway", "the HTTP gateway alone"),
    "worker": ("service.commands.worker", "one render worker alone"),
    "render": ("service.commands.render", "one picture, without a server"),
    "train": ("model.training.__main__", "train a network, or resume its training"),
    "dataset": ("model.training.prepare", "prepare a data set for training"),
    "evaluate": ("service.commands.evaluate", "quality metrics of a checkpoint"),
    "import": ("service.commands.import_", "convert an original CREPS pickle without running the code inside it"),
    "key": ("service.commands.key", "make an API key"),
    "info": ("service.commands.info", "config, digest, size, cost and precision of a checkpoint"),
    "benchmark": ("service.commands.benchmark", "speed beside the reference"),
}

EXTRAS = {command: command for command in ("serve", "train", "evaluate", "benchmark")}
"""The extra of our package that a command needs; the others that draw need "worker", and a gateway needs none."""

LEFT_OUT = ("torch", "tqdm", "triton")
"""What the extras bring."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: runs the command named by the first argument and returns the exit status."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    parser = ArgumentParser(
        prog="creps",
        description="Pictures of any size from CREPS networks.",
        epilog=f"commands:\n{listing}\n\ncreps COMMAND --help tells what a command takes.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS)
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = parser.parse_args(given[:1]).command
    return run(f"creps {command}", lambda rest: _run(command, rest), given[1:])


def _run(command: str, arguments: Sequence[str]) -> None:
    try:
        importlib.import_module(COMMANDS[command][0]).main(arguments)
    except ModuleNotFoundError as error:
        if error.name not in LEFT_OUT:
            raise
        extra = EXTRAS.get(command, "worker")
        message = f"is not installed; pip install 'creps-serve[{extra}]' installs what is missing"
        raise InputError(error.name, message) from None
