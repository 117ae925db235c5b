"""A figure of power spectra of patches at several scales, real and generated (StyleGAN3's avg_spectra, Figure 15)."""

import io
from collections.abc import Mapping

import numpy as np

from model.errors import InputError
from model.evaluation.detail import Spectra

PANEL = 3.4
"""Width and height of each scale's plot in inches."""


def check_matplotlib(field: str) -> None:
    """Raises InputError if the figure cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError(field, "needs matplotlib: pip install 'creps-serve[evaluate]'") from None


def plot_spectra(spectra: Mapping[str, Spectra], resolution: int) -> bytes:
    """A PNG with a plot for each scale: power over frequency, up to the patches' Nyquist limit.

    Args:
        spectra: by the name of what they were measured on. The first ones are the data's.
        resolution: side of the patches.
    """
    from matplotlib.figure import Figure

    scales = list(next(iter(spectra.values())))
    figure = Figure(figsize=(PANEL * len(scales) + 0.4, PANEL + 0.4), layout="constrained")
    all_axes = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    for axes, scale in zip(all_axes, scales, strict=True):
        for i, (name, powers) in enumerate(spectra.items()):
            frequencies = scale * np.arange(1, len(powers[scale]) + 1)
            style = {"color": "black", "linestyle": "--"} if i == 0 else {}
            axes.plot(frequencies, powers[scale], label=name, zorder=-i, **style)
        axes.set_xscale("log", base=2)
        axes.set_title(f"{scale}×: {scale * resolution}²", fontsize="medium")
        axes.set_xlabel("cycles per image")
        axes.grid(alpha=0.25)
    all_axes[0].set_ylabel("power, dB")
    all_axes[0].legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return content.getvalue()
