"""Names and shapes of a checkpoint's tensors, without torch."""

from itertools import pairwise

from model.config import DECODER_WIDTHS, FEATURES, REFINEMENT_WIDTHS, RGB, GeneratorConfig


def tensor_shapes(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in the ``state_dict`` of :class:`model.generator.Generator`."""
    shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (config.w_dim,)}

    def dense(name: str, c_in: int, c_out: int) -> None:
        shapes[f"{name}.weight"] = (c_out, c_in)
        shapes[f"{name}.bias"] = (c_out,)

    def modulated(name: str, c_in: int, c_out: int) -> None:
        dense(f"{name}.affine", config.w_dim, c_in)
        dense(name, c_in, c_out)

    if config.classes:
        dense("mapping.embed", config.classes, config.w_dim)
    width = config.z_dim + (config.w_dim if config.classes else 0)
    for i in range(config.mapping_layers):
        dense(f"mapping.layers.{i}", config.w_dim if i else width, config.w_dim)

    channels, thickness = config.channels, config.thickness
    shapes["synthesis.input.frequencies"] = (channels[0] // 2, thickness)
    shapes["synthesis.input.weight"] = (channels[0], 2, thickness)
    dense("synthesis.input.affine", config.w_dim, channels[0] * 2 * thickness)
    for k, width in enumerate(channels):
        block = f"synthesis.blocks.{k}"
        modulated(f"{block}.fc1", width, width)
        if k:
            modulated(f"{block}.fc0", channels[k - 1], width)
            modulated(f"{block}.to_line", width, FEATURES)
    for k in range(config.decoder_count):
        for i, (a, b) in enumerate(pairwise(DECODER_WIDTHS)):
            dense(f"synthesis.decoders.{k}.layers.{i}", a, b)
    dense("synthesis.to_rgb", FEATURES, RGB)
    for k, (a, b, c) in enumerate(REFINEMENT_WIDTHS):
        refinement = f"synthesis.refinements.{k}"
        modulated(f"{refinement}.fc0", a, b)
        modulated(f"{refinement}.fc1", b, c)
        modulated(f"{refinement}.to_rgb", c, RGB)
    return shapes
