"""Predicts what many shards take, from what `measure.py` measured of one.

    python -m bench.scale.simulate scale.jsonl

Every request is a batch that goes to all shards at once. A shard serves one batch at a time, first
come, first served; a request ends when the last shard has answered, and what they found is merged.
Requests come at random (Poisson). How long a shard takes is drawn from what was measured, scaled to
its rows; now and then a machine pauses.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
# What can't be measured on one machine: a network of 10 Gbit/s and what one hop takes; pauses of a
# machine, as one in a thousand calls, and how long.
BYTES_A_SECOND, HOP, PAUSES, PAUSE = 1.25e9, 0.0002, 0.001, 0.05
DIM, ANSWER_BYTES = 96, 20  # of a query in float32; key, id and score of a row
# Hedging: a second worker is asked after the time in which so many answers are there without it
# (Dean and Barroso 2013), for so many requests at most: without that limit a queue that grows makes
# all of them be sent twice, and doesn't end.
HEDGED_AFTER, MOST_HEDGED = 0.95, 0.05


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    shards: int
    rows: int  # of a shard
    batch: int
    k: int
    replicas: int
    hedged: bool
    load: float  # share of the time that a worker is busy, without hedging


@dataclass(frozen=True)
class Measured:
    """Seconds, from the file."""

    lines: list[dict[str, Any]]

    def median(self, what: str, **facts: Any) -> float:
        """The median of a figure."""
        return float(np.median([time for line in self.lines if self._fits(line, what, facts)
                                for time in line["times"]]))

    def shard_times(self, rows: int, batch: int) -> Float64:
        """What a shard of so many rows takes: measured for its largest number of rows, and scaled,
        as an exact search scans all rows."""
        sizes = sorted({line["rows"] for line in self.lines if line["what"] == "shard"})
        times = np.concatenate([line["times"] for line in self.lines
                                if self._fits(line, "shard", {"rows": sizes[-1], "batch": batch})])
        scaled: Float64 = times * (rows / sizes[-1])
        return scaled

    @staticmethod
    def _fits(line: dict[str, Any], what: str, facts: dict[str, Any]) -> bool:
        return line["what"] == what and all(line.get(name) == value
                                            for name, value in facts.items())


def simulated(setting: Setting, measured: Measured, requests: int = 10_000,
              seed: int = 0) -> dict[str, float]:
    """Latencies and costs of a setting, in seconds."""
    rng = np.random.default_rng(seed)
    times = measured.shard_times(setting.rows, setting.batch)
    mean = float(times.mean()) + PAUSES * PAUSE
    rate = setting.load * setting.replicas / mean
    arrivals = np.cumsum(rng.exponential(1.0 / rate, requests))
    hedge = np.inf
    last = np.zeros(requests)
    for shard in range(setting.shards):
        services = rng.choice(times, (2, requests)) + np.where(
            rng.random((2, requests)) < PAUSES, PAUSE, 0.0)
        if setting.hedged and shard == 0:
            ends = served(arrivals, services, setting.replicas, np.inf)
            hedge = float(np.quantile(ends - arrivals, HEDGED_AFTER))
        np.maximum(last, served(arrivals, services, setting.replicas, hedge), out=last)
    broadcast = _broadcast(setting)
    answers = setting.shards * (setting.batch * setting.k * ANSWER_BYTES) / BYTES_A_SECOND
    merge = measured.median("merge", shards=setting.shards, batch=setting.batch)
    call = measured.median("call")
    waited = last - arrivals + broadcast + answers + merge + call
    settled = waited[requests // 10 :]
    return {"median": float(np.median(settled)), "p99": float(np.quantile(settled, 0.99)),
            "queries_a_second": rate * setting.batch, "most": setting.replicas * setting.batch
            / mean, "broadcast": broadcast + answers, "merge": merge, "call": call}


def _broadcast(setting: Setting) -> float:
    """Queries go from machine to machine, as Ray's object store passes them: each that has them
    sends them on."""
    hops = int(np.ceil(np.log2(setting.shards * setting.replicas + 1)))
    return hops * (HOP + setting.batch * DIM * 4 / BYTES_A_SECOND)


def served(arrivals: Float64, services: Float64, replicas: int, hedge: float) -> Float64:
    """When a shard has answered each request."""
    free, ends = [0.0] * replicas, np.empty(len(arrivals))
    first, second = services.tolist()
    hedges: list[tuple[float, int, int]] = []  # when, for which request, who is at it already
    n_hedged = 0
    for i, arrival in enumerate([*arrivals.tolist(), np.inf]):
        while hedges and hedges[0][0] <= arrival:
            at, which, busy = heappop(hedges)
            # What nobody waits for any more is done all the same.
            other = min((worker for worker in range(replicas) if worker != busy),
                        key=free.__getitem__)
            free[other] = max(at, free[other]) + second[which]
            ends[which] = min(ends[which], free[other])
        if i < len(arrivals):
            worker = free.index(min(free))
            free[worker] = ends[i] = max(arrival, free[worker]) + first[i]
            if ends[i] - arrival > hedge and replicas > 1 and n_hedged <= MOST_HEDGED * i:
                n_hedged += 1
                heappush(hedges, (arrival + hedge, i, worker))
    return ends


def table(measured: Measured, shards: int, rows: int, k: int) -> str:
    """Lines of a Markdown table."""
    lines = ["| batch | replicas | hedged | load | median | 99 % | queries a second | most |",
             "|---|---|---|---|---|---|---|---|"]
    for batch in (1, 100):
        for load in (0.3, 0.6):
            for replicas, hedged in ((1, False), (2, False), (2, True)):
                found = simulated(Setting(shards, rows, batch, k, replicas, hedged, load), measured)
                lines.append(
                    f"| {batch} | {replicas} | {'yes' if hedged else 'no'} | {load:.0%} "
                    f"| {found['median'] * 1e3:,.0f} ms | {found['p99'] * 1e3:,.0f} ms "
                    f"| {found['queries_a_second']:,.0f} | {found['most']:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and what messages and merging take in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, help="what measure.py wrote")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of a shard")
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    lines = [json.loads(line) for line in args.measured.read_text().splitlines()]
    measured = Measured(lines)
    print(table(measured, args.shards, args.rows, args.k))
    for batch in (1, 100):
        found = simulated(Setting(args.shards, args.rows, batch, args.k, 1, False, 0.3), measured,
                          requests=100)
        print(f"batch of {batch}: messages {found['broadcast'] * 1e3:.2f} ms, "
              f"merge {found['merge'] * 1e3:.2f} ms, a call of Ray {found['call'] * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
