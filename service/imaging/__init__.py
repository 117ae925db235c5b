"""Encoding, tiled exports of images larger than memory, and the object store that holds them."""
