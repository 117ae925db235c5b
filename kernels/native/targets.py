"""The kinds of CPUs that there are kernels for, and how these are compiled."""

import hashlib
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "source"

# Products and sums of one expression become one instruction everywhere, so that all CPUs round alike.
FLAGS = "-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared"

VECTORS = "pack.cpp", "lines.cpp", "pixels.cpp", "products.cpp"
"""Sources of the kernels in fp32."""

TILES = "amx_pack.cpp", "amx_lines.cpp", "amx_pixels.cpp", "products.cpp"
"""Sources of the kernels for matrix units, in bf16×3."""


@dataclass(frozen=True)
class Target:
    """A kind of CPU.

    Attributes:
        name: "amx", "avx512" …
        flags: flags of gcc and clang that allow its instructions.
        sources: names of C++ files.
    """

    name: str
    flags: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of everything that is compiled and of the flags, 64 hex digits."""
        digest = hashlib.sha256()
        for path in sorted(SOURCE.iterdir()):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
        digest.update(repr((self, FLAGS, sys.platform)).encode())
        return digest.hexdigest()

    @property
    def file_name(self) -> str:
        """Name of a library that was compiled when the package was installed."""
        return f"{self.name}-{self.digest}.so"


# Flags and the names that torch gives the instructions they allow.
_AVX2 = {"-mavx2": "avx2", "-mfma": "fma3"}
_AVX512 = _AVX2 | {f"-mavx512{part}": f"avx512_{part}" for part in ("f", "bw", "dq", "vl")}

_AMX = _AVX512 | {"-mamx-tile": "amx_tile", "-mamx-bf16": "amx_bf16"}

INSTRUCTIONS = {"amx": _AMX, "avx512": _AVX512, "avx2": _AVX2, "generic": {}}
"""Kinds of CPUs, the fastest first. "generic" is what every CPU of an architecture has: NEON, or SSE2."""

TARGETS = {
    name: Target(name, tuple(flags), TILES if name == "amx" else VECTORS) for name, flags in INSTRUCTIONS.items()
}


def native_targets() -> list[Target]:
    """Targets that the compiler of this machine's architecture can compile."""
    return [target for target in TARGETS.values() if platform.machine() in ("x86_64", "AMD64") or not target.flags]
