"""Fuzzing for a while from random seeds, or one case again: `python tests/fuzz --help`."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import resource
import secrets
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
# Where reproducers go, a line each.
FINDINGS = HERE / "findings.txt"
KINDS = ("histories", "alike", "questions", "files")
# Cases of a worker before another takes its place, so that one that leaks or dies costs little.
CASES = 200
# Memory that a worker may take beside what its libraries take; the largest case needs a tenth.
MEMORY = 1 << 30
# Seconds after which a case counts as hanging; the longest takes five.
PATIENCE = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="all unless given")
    parser.add_argument("seeds", nargs="*", type=int, help="run these cases again")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        return worker(given.kind, given.worker)
    if given.seeds:
        return sum(not again(given.kind, seed) for seed in given.seeds)
    return campaign([given.kind] if given.kind else list(KINDS), given.seconds, given.jobs)


def prepare(kind: str) -> object:
    """Import what runs the cases; memory is limited, and warnings are errors."""
    sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]
    faulthandler.enable()
    warnings.simplefilter("error")
    run = importlib.import_module(kind).run
    import sklearn.cluster  # noqa: F401 - loading it takes memory

    from farann import RecallWarning

    # Queries are of all kinds.
    warnings.simplefilter("ignore", RecallWarning)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken = pages * resource.getpagesize()
        if taken < 1 << 40:  # sanitizers map terabytes
            resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, -1))
    return run


def worker(kind: str, first: int) -> int:
    """Run cases from a seed on, and write what they did, a line of JSON each."""
    run = prepare(kind)
    for seed in range(first, first + CASES):
        print(json.dumps({"seed": seed}), flush=True)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            print(json.dumps({"done": run(seed)}), flush=True)  # type: ignore[operator]
        except Exception:
            print(json.dumps({"wrong": traceback.format_exc()}), flush=True)
        faulthandler.cancel_dump_traceback_later()
    return 0


def again(kind: str, seed: int) -> bool:
    run = prepare(kind)
    try:
        print(kind, seed, dict(run(seed)))  # type: ignore[operator]
    except Exception:
        traceback.print_exc()
        return False
    return True


def campaign(kinds: list[str], seconds: float, jobs: int) -> int:
    """Keep workers running until the time is over; print figures and write down findings."""
    end = time.monotonic() + seconds
    done: Counter[str] = Counter()
    wrong: list[str] = []
    seen: set[str] = set()
    lock = threading.Lock()

    def found(kind: str, seed: int | None, what: str) -> None:
        line = f"python tests/fuzz {kind} {seed}"
        # Cases that end at the same line with the same message tell the same story.
        story = "\n".join(part for part in what.splitlines() if part.startswith(("  File", kind)))
        with lock:
            wrong.append(line)
            with FINDINGS.open("a") as stream:
                stream.write(f"{line}  # {what.strip().splitlines()[-1][:200]}\n")
            if story not in seen:
                seen.add(story)
                print(f"\n{line}\n{what}", flush=True)

    def keep_going(number: int) -> None:
        while time.monotonic() < end:
            kind = kinds[number % len(kinds)]
            number += 1
            # Seeds of six bytes, far from those of the corpus.
            attend(kind, secrets.randbelow(2**48))

    def attend(kind: str, first: int) -> None:
        process = subprocess.Popen(
            [sys.executable, str(HERE), kind, "--worker", str(first)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stderr is not None
        noise: list[str] = []
        reader = threading.Thread(target=lambda stream: noise.extend(stream),
                                  args=(process.stderr,), daemon=True)
        reader.start()
        seed, over = None, False
        for line in process.stdout:
            told = json.loads(line)
            seed = told.get("seed", seed)
            with lock:
                done.update(told.get("done", {}))
            if "wrong" in told:
                found(kind, seed, told["wrong"])
            if "seed" not in told and time.monotonic() > end:
                over = True
                process.kill()
                break
        status = process.wait()
        reader.join()
        if status and not over:
            found(kind, seed, f"{''.join(noise[-60:])}\nthe process ended with status {status}")

    threads = [threading.Thread(target=keep_going, args=(i,)) for i in range(jobs)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        for thread in threads:
            thread.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of CPU")
    report(done)
    print(f"{len(wrong)} findings" + (f", in {FINDINGS}" if wrong else ""))
    return int(bool(wrong))


def report(done: Counter[str]) -> None:
    """Print what was done, and a table of questions by mode."""
    columns = ("questions", "asked again", "answers")
    modes = sorted({what.partition(": ")[0] for what in done if ": " in what})
    print("\n".join(f"{count:9,} {what}" for what, count in sorted(done.items())
                    if ": " not in what))
    if modes:
        print("".join(f"{column:>12}" for column in columns))
    for mode in modes:
        print("".join(f"{done[f'{mode}: {column}']:12,}" for column in columns), "", mode)


if __name__ == "__main__":
    sys.exit(main())
