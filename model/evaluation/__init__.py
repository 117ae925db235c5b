"""Quality metrics of a generator: FID, KID, precision and recall, consistency between scales, equivariance, detail at
each scale."""

METRICS = {
    "fid": "Fréchet inception distance to the data",
    "kid": "kernel inception distance to the data",
    "pr": "precision and recall",
    "scale": "agreement of an image with one of twice its size, in dB",
    "eqt": "equivariance to translation, in dB",
    "eqr": "equivariance to rotation, in dB",
    "pfid": "FID of patches of images of 1, 2, 4 and 8 times the size",
    "edges": "width of their sharpest edges, beside that of the data, in pixels",
    "spectra": "difference of their power spectra from those of the data, in dB",
}
"""Metrics by the names of the command line."""

DATA_METRICS = ("fid", "kid", "pr")
"""Metrics that compare generated images with real ones."""

PATCH_METRICS = ("pfid", "edges", "spectra")
"""Metrics that compare patches of generated and real images at several scales."""

DEFAULT_COUNT = 50_000
"""Generated images that are compared with the data (``fid50k_full`` of the original tools)."""

PAIR_METRICS = ("scale", "eqt", "eqr")
"""Metrics that compare images of the network with each other."""

SCALE_COUNT = 64
"""Seeds of PAIR_METRICS: a fixed number, so that the worst seeds of two runs can be compared."""
