"""Plan the measurements and run each in a process of its own."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from . import machine
from .algorithms import Algorithm
from .algorithms.base import Profile, Setting
from .datasets import DataSet
from .fetch import Unavailable
from .results import Record
from .worker import MODES, Task, describe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "results.jsonl"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                     "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS")
_NOT_INHERITED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "FARANN_ISA")


@dataclass(frozen=True)
class Options:
    """How to measure; the defaults are those of a quick run."""

    full: bool = False
    k: int = 10
    threads: int = 2
    repeats: int = 3
    budget: float = 0.3
    timeout: float = 300.0
    modes: tuple[str, ...] = MODES


class Log:
    """JSON lines, one a measurement, appended to a file under one run's id.

    The first line of a run (kind ``run``) tells the machine, the commit and the command;
    the others (kind ``result``, ``failure``, ``skipped``) refer to it by ``run``.
    """

    def __init__(self, path: Path, options: Options, command: list[str]) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.path = path
        self.run = f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid():x}"
        self.about = {
            "time": now.isoformat(timespec="seconds"),
            "command": f"python -m bench {shlex.join(command)}".strip(),
            "commit": commit(),
            "machine": {**machine.describe(), "rates": measured_rates()},
            "options": json.loads(json.dumps(asdict(options))),  # as it is read back
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write("run", **self.about)

    def write(self, kind: str, **values: Any) -> None:
        """Append one line."""
        line = json.dumps({"kind": kind, "run": self.run, **values})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def commit() -> str:
    """Commit of the checkout, marked when there are changes; "unknown" without git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def child_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a measuring process: one thread, no inherited choice of kernels."""
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    return {**kept, **dict.fromkeys(_THREAD_VARIABLES, "1"), **(extra or {})}


def measured_rates() -> dict[str, float]:
    """What the machine can do, measured in a process with numpy's own choice of kernels."""
    output = subprocess.run([sys.executable, "-m", "bench.machine"], cwd=ROOT,
                            env=child_environment(), check=True, capture_output=True,
                            text=True).stdout
    rates: dict[str, float] = json.loads(output)
    return rates


def about_index(algorithm: type[Algorithm], data: DataSet, setting: Setting, k: int) -> Record:
    """What every line on an index says of it."""
    rows, dim = data.shape()
    return {"algorithm": algorithm.name, "title": algorithm.title, "library": algorithm.library,
            "baseline": algorithm.baseline, "version": algorithm.version(), "dataset": data.name,
            "dataset_title": data.title, "metric": data.metric, "rows": rows, "dim": dim, "k": k,
            "build": setting.build, "variant": setting.environment, "label": setting.label}


def measure(algorithm: type[Algorithm], data: DataSet, setting: Setting, options: Options,
            log: Log) -> list[Record]:
    """Build and time one index in a process of its own; a failure is logged and told.

    Returns
    -------
    list of dict
        A record a measurement, also when the process failed later.
    """
    environment = {**algorithm.environment(machine.cpu_flags()), **setting.environment}
    task = Task(algorithm.name, describe(data), setting.build, setting.searches,
                list(options.modes), options.k, options.threads, options.repeats, options.budget)
    start = time.monotonic()
    measured, reason = run_child("worker", asdict(task), child_environment(environment),
                                 options.timeout)
    about = {**about_index(algorithm, data, setting, options.k), "environment": environment,
             "process_seconds": time.monotonic() - start}
    if reason:
        log.write("failure", **about, reason=reason)
        tqdm.write(f"failed: {algorithm.name} on {data.title}: {reason}", file=sys.stderr)
    return [{**about, **record} for record in measured]


def run_child(module: str, task: dict[str, Any], environment: dict[str, str],
              timeout: float) -> tuple[list[Any], str]:
    """Have a module of this suite do a task in a process of its own: see `worker.serve`.

    Returns
    -------
    records : list of dict
        What was measured, also when the child failed later.
    reason : str
        Why it failed, empty when it didn't.
    """
    with tempfile.TemporaryDirectory(prefix="farann-bench-") as folder:
        task_path, out_path = Path(folder, "task.json"), Path(folder, "out.jsonl")
        task_path.write_text(json.dumps(task))
        out_path.touch()
        command = [sys.executable, "-m", f"bench.{module}", str(task_path), str(out_path)]
        with open(Path(folder, "stderr"), "wb") as errors:
            reason = _wait(command, environment, errors, timeout)
        lines = Path(folder, "stderr").read_text(errors="replace").strip().splitlines()
        if reason and lines and not reason.startswith("stopped"):
            reason = f"{reason}: {lines[-1][:300]}"
        return [json.loads(line) for line in out_path.read_text().splitlines()], reason


def _wait(command: list[str], environment: dict[str, str], errors: BinaryIO, timeout: float) -> str:
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=errors,
                          start_new_session=True) as child:
        try:
            return reason_of(child.wait(timeout=timeout))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return f"stopped after {timeout:.0f} s"
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def reason_of(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""


def plan(
    algorithms: Iterable[type[Algorithm]], data_sets: Iterable[DataSet], options: Options
) -> tuple[list[tuple[type[Algorithm], DataSet, Setting]], list[dict[str, str]]]:
    """What to measure, and what is left out with the reason."""
    tasks: list[tuple[type[Algorithm], DataSet, Setting]] = []
    skipped: list[dict[str, str]] = []
    missing = {algorithm: algorithm.missing() for algorithm in algorithms}
    for algorithm, reason in missing.items():
        if reason:
            skipped.append({"algorithm": algorithm.name, "reason": reason})
    for data in data_sets:
        rows, dim = data.shape()
        for algorithm in (a for a, reason in missing.items() if not reason):
            there = {"algorithm": algorithm.name, "dataset": data.name}
            if data.metric not in algorithm.metrics:
                skipped.append({**there, "reason": f"it has no {data.metric}"})
                continue
            settings = algorithm.sweep(Profile(rows, dim, data.metric, options.k, options.full))
            if not settings:
                skipped.append({**there, "reason": "takes too long here for a quick run"})
            tasks += [(algorithm, data, setting) for setting in settings]
    return tasks, skipped


def run(algorithms: list[type[Algorithm]], data_sets: list[DataSet], unavailable: list[Unavailable],
        options: Options, out: Path = RESULTS, command: list[str] | None = None) -> Path:
    """Measure every algorithm on every data set and append to a file of JSON lines."""
    log = Log(out, options, command or [])
    for error in unavailable:
        log.write("skipped", reason=str(error))
        tqdm.write(f"left out: {error}", file=sys.stderr)
    tasks, skipped = plan(algorithms, data_sets, options)
    for entry in skipped:
        log.write("skipped", **entry)
        where = f" on {entry['dataset']}" if "dataset" in entry else ""
        tqdm.write(f"left out: {entry['algorithm']}{where}: {entry['reason']}", file=sys.stderr)
    with tqdm(tasks, desc="bench", unit="index", smoothing=0) as progress:
        for algorithm, data, setting in progress:
            progress.set_postfix_str(f"{data.name}: {algorithm.name}")
            for record in measure(algorithm, data, setting, options, log):
                log.write("result", **record)
    return out
