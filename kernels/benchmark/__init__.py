"""How fast the backends draw, and what the compiler makes of the GPU kernels."""
