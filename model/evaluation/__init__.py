"""How good a network's pictures are: FID, KID, precision and recall, and whether they agree between scales."""

METRICS = {
    "fid": "Fréchet inception distance to the data",
    "kid": "kernel inception distance to the data",
    "pr": "precision and recall",
    "scale": "agreement of a picture with one of twice its size, in dB",
}
"""What can be measured, by the names that users give."""

DATA_METRICS = ("fid", "kid", "pr")
"""Those that compare with real pictures."""

DEFAULT_COUNT = 50_000
"""Pictures that are drawn to be compared with the data (``fid50k_full`` of the original tools)."""

SCALE_COUNT = 64
"""Seeds whose pictures are compared between scales: a fixed number, so that the worst of one run can be compared with
the worst of another."""
