"""Build of the native core; everything else is in pyproject.toml."""

import hashlib
import json
import os
import re
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

C_SOURCES = sorted(str(path) for path in Path("src_c").rglob("*.c"))
C_HEADERS = sorted(str(path) for path in Path("src_c").rglob("*.h"))

# No instruction set is named here: each file of src_c/levels names its own, so that one wheel
# serves all CPUs. Contraction of a * b + c is off: results must have the same bits everywhere.
FLAGS = {
    "msvc": ["/O2", "/std:c11", "/fp:precise"],
    "unix": ["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"],
}
# Loops of farann/native call kernels: -O3 takes longer to compile them, and they run no faster.
# Modules that run once for an index, a file or a batch are compiled for size. Compiling the scan
# loops that way slowed single queries by 6 to 16 %.
OF_MODULES = {"msvc": [], "unix": ["-O2"]}
SMALLER = {"msvc": ["/O1"], "unix": ["-Os"]}
RUN_ONCE = {"_cyutility", "codes", "kernels", "measuring", "snapshot"}

# What users get has no symbols for debuggers, which are six sevenths of the shared object.
# FARANN_DEBUG=1 keeps them, and so do builds with sanitizers, whose reports name lines.
SANITIZED = "-fsanitize" in os.environ.get("CFLAGS", "")
SYMBOLS = SANITIZED or os.environ.get("FARANN_DEBUG", "0") not in ("", "0")
STRIPPED = {"darwin": ["-Wl,-S", "-Wl,-x"]}.get(sys.platform, ["-Wl,-s"])

# One build serves all versions of Python from 3.11 on: it uses nothing but their stable ABI, which
# free-threaded ones don't have yet. FARANN_LIMITED_API=0 compiles for one version of Python alone.
LIMITED = (os.environ.get("FARANN_LIMITED_API", "1") not in ("", "0")
           and not sysconfig.get_config_var("Py_GIL_DISABLED"))


# Each module of farann/native is compiled by itself, and all are linked into one shared object,
# from which farann/native/__init__.py loads them: the kernels are there once. So is what Cython
# adds for typed memoryviews, which takes 150 KB and would be in each module.
SHARED = "_cyutility"
MODULES = [SHARED, *sorted(path.stem for path in Path("farann/native").glob("*.pyx"))]


def sources_of_modules():
    """Translate the modules to C."""
    from Cython.Build import cythonize  # late: metadata are written without it

    modules = cythonize(
        [Extension(f"farann.native.{name}", [f"farann/native/{name}.pyx"] if name != SHARED else [])
         for name in MODULES],
        # Processes are forked for this, which isn't safe or possible elsewhere.
        nthreads=(os.cpu_count() or 1) if sys.platform == "linux" else 0,
        shared_utility_qualified_name=f"farann.native.{SHARED}",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            # State that threads share is changed in critical sections alone, or by atomics.
            "freethreading_compatible": True,
            "auto_pickle": False,  # objects of the core have no state that could be pickled
        },
    )
    return [source for module in modules for source in module.sources]


class BuildExt(build_ext):
    """Give each compiler family its own flags, and compile a file on each core, if it changed."""

    def build_extensions(self):
        family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        if family == "msvc" and not self.compiler.initialized:
            self.compiler.initialize()  # once, which threads that compile would each begin with
        # The last -O counts, and at -O3 gcc took minutes for each level with sanitizers.
        flags = [flag for flag in FLAGS[family] if not (SANITIZED and flag == "-O3")]
        link_flags = []
        if family == "unix" and not SYMBOLS:
            flags, link_flags = [*flags, "-g0"], STRIPPED
        for extension in self.extensions:
            extension.sources = [*sources_of_modules(), *C_SOURCES]
            extension.extra_compile_args = flags
            extension.extra_link_args = link_flags
            if family == "unix" and sys.platform != "win32":
                extension.libraries = ["m"]
        one_by_one = self.compiler.compile
        # Objects are kept for the next build with the same compiler and flags.
        made_with = (sys.version, self.plat_name, getattr(self.compiler, "compiler_so", None),
                     flags, OF_MODULES, SMALLER, sorted(RUN_ONCE), LIMITED,
                     *map(os.environ.get, ("CC", "CFLAGS", "ARCHFLAGS")))
        digest = hashlib.sha256(repr(made_with).encode()).hexdigest()
        self.build_temp = str(Path("build", f"objects-{digest[:12]}"))
        newest_header = max(Path(name).stat().st_mtime for name in C_HEADERS)

        def compile_side_by_side(sources, **options):
            def compile_one(source):
                made = [Path(name) for name in self.compiler.object_filenames(
                    [source], output_dir=self.build_temp)]
                changed = max(Path(source).stat().st_mtime, newest_header)
                if all(one.exists() and one.stat().st_mtime > changed for one in made):
                    return [str(one) for one in made]
                more = []
                if not SANITIZED and not source.startswith("src_c"):
                    more = (SMALLER if Path(source).stem in RUN_ONCE else OF_MODULES)[family]
                return one_by_one([source], **{**options, "output_dir": self.build_temp,
                                               "extra_postargs": flags + more})

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(compile_one, sources)
                return [name for names in compiled for name in names]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()

    def run(self):
        """Remove older builds: Python imports one named for its version before one for all."""
        super().run()
        for extension in self.extensions:
            built = Path(self.get_ext_fullpath(extension.name))
            for suffix in EXTENSION_SUFFIXES:
                other = built.with_name(extension.name.rpartition(".")[2] + suffix)
                if other != built:
                    other.unlink(missing_ok=True)

    def get_export_symbols(self, extension):
        """One entry for each module; compilers for Windows export what is named here."""
        return [f"PyInit_{name}" for name in MODULES]


def sbom(name, version):
    """What the binary is made of, as CycloneDX (PEP 770): our C and what Cython generates."""
    from Cython import __version__ as cython

    def component(name, version):
        reference = f"pkg:pypi/{name.lower()}@{version}"
        return {"type": "library", "bom-ref": reference, "name": name, "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}], "purl": reference}

    ours, theirs = component(name, version), component("Cython", cython)
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": {"component": ours}, "components": [theirs],
            "dependencies": [{"ref": ours["bom-ref"], "dependsOn": [theirs["bom-ref"]]}]}


class BdistWheel(bdist_wheel):
    def write_wheelfile(self, wheelfile_base, **options):
        """Write the SBOM beside the wheel's own metadata."""
        super().write_wheelfile(wheelfile_base, **options)
        folder = Path(wheelfile_base, "sboms")
        folder.mkdir(exist_ok=True)
        made = sbom(self.distribution.get_name(), self.distribution.get_version())
        (folder / "farann.cdx.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")


core = Extension(
    "farann.native._all",
    sources=C_SOURCES,
    depends=C_HEADERS,
    include_dirs=["src_c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
    py_limited_api=LIMITED,
)

def readme():
    """The README with absolute links, as it is shown outside of the repository as well."""
    text = Path("README.md").read_text("utf-8")
    pictures = r'((?:src|srcset)="|!\[[^]]*\]\()(?=docs/)'
    text = re.sub(pictures, r"\1https://raw.githubusercontent.com/farann/farann/main/", text)
    return re.sub(r"\]\((?!https://|#)", "](https://github.com/farann/farann/blob/main/", text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    ext_modules=[core],
    cmdclass={"bdist_wheel": BdistWheel, "build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
