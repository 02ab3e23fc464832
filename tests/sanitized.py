"""Run the core's tests with sanitizers: `python tests/sanitized.py address`, or `thread`.

The core is compiled into build/<name>, with gcc; what a sanitizer reports goes there, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
FLAGS = {
    "address": "-fsanitize=address,undefined -fno-sanitize-recover=all",
    "thread": "-fsanitize=thread",
}
# A report ends the process. Python keeps some memory for good, so leaks are looked at below.
OPTIONS = {
    "address": {
        "ASAN_OPTIONS": "detect_leaks=1:exitcode=0:abort_on_error=0:log_path={log}",
        "UBSAN_OPTIONS": "print_stacktrace=1:log_path={log}",
        "LSAN_OPTIONS": "max_leaks=0:report_objects=0",
    },
    "thread": {
        "TSAN_OPTIONS": "suppressions={root}/tests/thread.supp:log_path={log}:exitcode=0:"
                        "die_after_fork=0",  # tests fork where threads run, as users do
    },
}
TESTS = {
    "address": [
        "exact", "kernels", "ties", "single_queries", "codes", "code_levels", "code_error_bounds",
        "code_files", "absurd_codes", "partition_files", "filters", "index_files", "norm_pruning",
        "pca_filter", "4_bit_codes", "relative_codes", "diverse", "row_types", "groups", "nearest",
        "nearest_l2", "nearest_beyond", "merging", "codes_given_up", "time_limit", "key_bounds",
        "k_best_selection",
    ],
    "thread": ["concurrency"],
}


def compiled(name: str, folder: Path) -> Path:
    """The package with a core for a sanitizer, compiled where something changed."""
    flags = f"{FLAGS[name]} -fno-omit-frame-pointer -g -O1"
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(folder),
         "--build-lib", str(folder / "lib")],
        cwd=ROOT, check=True, env={**os.environ, "CC": "gcc", "CFLAGS": flags})
    return folder / "lib"


def library(name: str) -> str:
    return subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True,
                          text=True).stdout.strip()


def reports(folder: Path, name: str) -> list[str]:
    """What sanitizers reported, of leaks those whose memory the core asked for."""
    found = []
    for path in sorted(folder.glob("report.*")):
        for report in re.split(r"\n(?=Direct leak|Indirect leak|=+\nWARNING|=+\n==)",
                               path.read_text(errors="replace")):
            if "leak of" in report and "/_all." not in report:
                continue
            if re.search(r"leak of|ERROR: Address|runtime error|WARNING: Thread", report):
                found.append(report)
    return found


def main() -> int:
    name, *arguments = sys.argv[1:]
    folder = ROOT / "build" / name
    package = compiled(name, folder)
    for old in folder.glob("report.*"):
        old.unlink()
    options = {key: value.format(log=folder / "report", root=ROOT)
               for key, value in OPTIONS[name].items()}
    environment = {
        **os.environ, **options, "LD_PRELOAD": " ".join(map(library, LIBRARIES[name])),
        # Each object a block of its own, which can be told from others; one thread of BLAS.
        "PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(package),
    }
    arguments = arguments or [str(next(ROOT.glob(f"tests/**/test_{topic}.py")))
                              for topic in TESTS[name]]
    # What UBSan says before the process ends is on standard error: without -s pytest keeps it.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-s", "-o", f"pythonpath={package}",
               "-p", "no:cacheprovider", *arguments]
    # Sanitizers of threads want memory where it always was.
    if name == "thread" and shutil.which("setarch"):
        command = ["setarch", "-R", *command]
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    found = reports(folder, name)
    print("\n\n".join(found[:20]))
    print(f"{name}: {len(found)} reports, in {folder.relative_to(ROOT)}/report.*")
    return status or int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
