"""The command line ``creps``. Imports only the module of the given command: not all need torch."""

import importlib
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version

from model.errors import InputError
from model.util.arguments import ArgumentParser, run
from model.util.cpus import limit_threads

COMMANDS = {
    "serve": ("service.commands.serve", "gateway, worker and embedded queue together"),
    "gateway": ("service.commands.gateway", "the HTTP gateway only"),
    "worker": ("service.commands.worker", "one render worker only"),
    "render": ("service.commands.render", "render images without a server"),
    "mix": ("service.commands.mix", "a sheet of style mixing: some layers of each image from another"),
    "directions": ("service.commands.directions", "directions in which a network's images can be edited"),
    "video": ("service.commands.video", "a video of walks between latents, zooms and turns"),
    "project": ("service.commands.project", "find the latent of a picture"),
    "train": ("model.training.__main__", "train a network, or resume its training"),
    "dataset": ("model.data.prepare", "prepare a data set for training"),
    "evaluate": ("service.commands.evaluate", "quality metrics of a checkpoint"),
    "import": ("service.commands.import_", "convert an original CREPS pickle without running code in it"),
    "key": ("service.commands.key", "make an API key"),
    "info": ("service.commands.info", "config, digest, size and cost of a checkpoint, or how an image was made"),
    "benchmark": ("service.commands.benchmark", "speed, compared with the reference"),
}

_NAMED_ALIKE = ("serve", "gateway", "train", "evaluate", "benchmark", "video")
EXTRAS = {command: command for command in _NAMED_ALIKE} | {"key": "gateway"}
"""The package extra that a command needs; others need "worker"."""

OWN_PACKAGES = ("service", "kernels", "model")
"""All others come with the extras."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument and return the exit status."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    parser = ArgumentParser(
        prog="creps",
        description="Images of any size from CREPS networks.",
        epilog=f"commands:\n{listing}\n\nSee creps COMMAND --help for its options.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"creps {version('creps-serve')}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS)
    limit_threads()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = parser.parse_args(given[:1]).command
    return run(f"creps {command}", lambda rest: _run(command, rest), given[1:])


def _run(command: str, arguments: Sequence[str]) -> None:
    try:
        importlib.import_module(COMMANDS[command][0]).main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", *OWN_PACKAGES):
            raise
        extra = EXTRAS.get(command, "worker")
        message = f"is not installed; install it with: pip install 'creps-serve[{extra}]'"
        raise InputError(package, message) from None
