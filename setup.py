"""Build of the native core; everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

C_SOURCES = sorted(str(path) for path in Path("src_c").rglob("*.c"))
C_HEADERS = sorted(str(path) for path in Path("src_c").rglob("*.h"))

# No instruction set is named here: each file of src_c/levels names its own, so that one wheel
# serves all CPUs. Contraction of a * b + c is off: results must have the same bits everywhere.
FLAGS = {
    "msvc": ["/O2", "/std:c11", "/fp:precise"],
    "unix": ["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"],
}


class BuildExt(build_ext):
    """Give each compiler family its own flags."""

    def build_extensions(self):
        family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        flags = FLAGS[family]
        if "-fsanitize" in os.environ.get("CFLAGS", ""):
            # The last -O counts, and at -O3 gcc took minutes for each level.
            flags = [flag for flag in flags if flag != "-O3"]
        for extension in self.extensions:
            extension.extra_compile_args = flags
            if family == "unix" and sys.platform != "win32":
                extension.libraries = ["m"]
        super().build_extensions()


core = Extension(
    "farann._core",
    sources=["farann/_core.pyx", *C_SOURCES],
    depends=[*C_HEADERS, *map(str, Path("farann").glob("*.px[di]"))],
    include_dirs=["src_c"],
)

setup(
    ext_modules=cythonize(
        [core],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        },
    ),
    cmdclass={"build_ext": BuildExt},
)
