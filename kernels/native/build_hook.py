"""Compiles the kernels of all kinds of CPUs into a wheel, for machines without a compiler. hatchling runs this."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class CompileKernels(BuildHookInterface[Any]):
    """Adds libraries to a wheel, which is then for one platform. Without a compiler the wheel has none, and is for all
    platforms; an editable installation compiles what it needs when it needs it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)  # what is built is not installed
        from kernels.native.compiler import READY, CompileError, compile_library, find_compiler
        from kernels.native.targets import native_targets

        self._folder = tempfile.TemporaryDirectory()
        try:
            compiler = find_compiler()
            for target in native_targets():
                library = Path(self._folder.name, target.file_name)
                compile_library(compiler, target, library)
                build_data["force_include"][str(library)] = f"kernels/native/{READY.name}/{target.file_name}"
        except CompileError as error:
            build_data["force_include"].clear()
            self.app.display_warning(f"the wheel has no kernels for CPUs: {error}")
            return
        build_data["pure_python"] = False
        platform = next(tag for tag in platform_tags() if not tag.startswith("linux_"))
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()
