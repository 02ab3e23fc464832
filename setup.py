"""Build of the native core; everything else is in pyproject.toml."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
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
    """Give each compiler family its own flags, and compile a file on each core."""

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
        one_by_one = self.compiler.compile

        def compile_side_by_side(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(lambda source: one_by_one([source], **options), sources)
                return [name for names in compiled for name in names]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()

    def get_export_symbols(self, extension):
        """One entry for each module; compilers for Windows export what is named here."""
        return [f"PyInit_{module.name.rpartition('.')[2]}" for module in modules]


# Each module of farann/native is compiled by itself, and all are linked into one shared object,
# from which farann/native/__init__.py loads them: the kernels are there once. So is what Cython
# adds for typed memoryviews, which takes 150 KB and would be in each module.
SHARED = "farann.native._cyutility"
modules = cythonize(
    [Extension(SHARED, []),
     *(Extension(f"farann.native.{path.stem}", [str(path)])
       for path in sorted(Path("farann/native").glob("*.pyx")))],
    # Processes are forked for this, which isn't safe or possible elsewhere.
    nthreads=(os.cpu_count() or 1) if sys.platform == "linux" else 0,
    shared_utility_qualified_name=SHARED,
    compiler_directives={
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
        "embedsignature": True,
    },
)

core = Extension(
    "farann.native._all",
    sources=[*(source for module in modules for source in module.sources), *C_SOURCES],
    depends=C_HEADERS,
    include_dirs=["src_c"],
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildExt})
