"""``python -m kernels.native``: compiles the kernels of all kinds of CPUs into the package, for machines without a
compiler."""

from kernels.native.compiler import READY, compile_library, find_compiler
from kernels.native.targets import native_targets

if __name__ == "__main__":
    READY.mkdir(exist_ok=True)
    for target in native_targets():
        path = READY / target.file_name
        compile_library(find_compiler(), target, path)
        print(path)
