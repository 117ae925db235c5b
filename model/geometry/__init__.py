"""Geometry of images: transforms, what lies outside of the square, and where pixels are sampled. float64, numpy only.

The *plane* is that of a viewport's region: the picture fills the unit square, x to the right, y downwards. A transform
moves the picture; pixels are computed the other way, by the *pull-back* from a place of the plane to the place of the
picture that it shows.
"""
