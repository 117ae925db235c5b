"""``creps project``: find the latent whose image is nearest to a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path

from model.errors import InputError
from model.latents.latent import Latent
from model.util.arguments import ArgumentParser
from model.util.files import terminate_as_interrupt
from service.commands import options as types
from service.commands.bars import rendering_bar
from service.commands.options import add_device, check_output
from service.models.catalog import DEMO_NAME, open_checkpoint

STYLEGAN_OPTIONS = {
    "--network": "--checkpoint",
    "--target": "PICTURE, the first argument",
    "--num-steps": "--steps",
    "--outdir": "--output",
}
"""Options of StyleGAN's projector.py, and what this command has in their place."""


def main(arguments: Sequence[str]) -> None:
    """Write the latent of a picture. Raises InputError if an option is invalid, or OSError."""
    options = _parser().parse_args(arguments)
    checkpoint = open_checkpoint(options.checkpoint)
    output = options.output or options.picture.with_suffix(".npz")
    if output.suffix.lower() != ".npz":
        raise InputError("output", f"must end in .npz, not {output.name}")
    check_output("output", output)
    class_index = None
    if options.class_index is not None:
        class_index = checkpoint.find_class(options.class_index)
        Latent(seed=0, class_index=class_index).check(checkpoint.config)

    from model.latents.files import write_latent_file
    from model.projection.project import MAX_STEPS, project
    from model.projection.target import read_target
    from model.util.device import find_device

    if not 1 <= options.steps <= MAX_STEPS:
        raise InputError("steps", f"must be from 1 to {MAX_STEPS}, not {options.steps}")
    target = read_target(options.picture, options.mask)
    generator = checkpoint.load().to(find_device(options.device))
    with terminate_as_interrupt(), rendering_bar("projecting", options.steps) as bar:
        found = project(generator, target, options.steps, class_index, lambda done, _: bar.update(done - bar.n))
    write_latent_file(output, found.ws)
    print(f"{output}: {found.psnr:.1f} dB ({found.psnr_w:.1f} dB with equal styles in all layers)")
    print(f"creps render {options.checkpoint} --latent {output} renders it at any --size", file=sys.stderr)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps project",
        description="Finds the latent whose image is nearest to a picture, and writes it as an npz file for "
        "creps render --latent. Transparent pixels and those outside the mask are filled in.",
        renamed=STYLEGAN_OPTIONS,
    )
    add = parser.add_argument
    add("picture", type=Path, metavar="PICTURE", help="an image file; its largest side is averaged down to 512 pixels")
    add("--checkpoint", default=DEMO_NAME, metavar="CHECKPOINT", help=f'a file, or "{DEMO_NAME}" (default)')
    add("--mask", type=Path, metavar="FILE", help="image of the same size, white where the picture is known")
    add("--class", dest="class_index", metavar="CLASS", help="begin at the mean of a class of a conditional network")
    add("--steps", type=types.integer, default=200, help="number of steps (default: 200), each on 64×64 pixels")
    add_device(parser)
    add("--output", type=Path, metavar="FILE", help="default: the picture's name with .npz")
    return parser
