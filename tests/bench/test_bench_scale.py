"""The simulation of many shards, where its answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.scale import simulate
from bench.scale.simulate import Measured, Setting, simulated


def measured(times: list[float]) -> Measured:
    lines: list[dict[str, Any]] = [{"what": "shard", "rows": 1000, "batch": 1, "times": times},
                                   {"what": "merge", "shards": 4, "batch": 1, "times": [0.5]},
                                   {"what": "call", "times": [0.25]}]
    return Measured(lines)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAUSES", 0.0), ("HOP", 0.0), ("BYTES_A_SECOND", np.inf)):
        monkeypatch.setattr(simulate, name, value)


def test_an_idle_cluster_takes_what_a_shard_takes() -> None:
    found = simulated(Setting(4, 3000, 1, 10, 1, False, 1e-6), measured([2.0]), 500)
    assert found["median"] == pytest.approx(3 * 2.0 + 0.5 + 0.25)
    assert found["p99"] == pytest.approx(found["median"])
    assert found["most"] == pytest.approx(1 / 6.0)


def test_waiting_is_that_of_a_queue_with_constant_service() -> None:
    """Pollaczek and Khinchine: load / (2 (1 - load)) services are waited on average."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(2.0, 60_000))
    ends = simulate.served(arrivals, np.ones((2, 60_000)), 1, np.inf)
    assert (ends - arrivals).mean() == pytest.approx(1.5, rel=0.05)


def test_replicas_and_hedging_cut_the_tail() -> None:
    times = [1.0] * 98 + [30.0] * 2
    plain, two, hedged = (simulated(Setting(4, 1000, 1, 10, replicas, with_hedge, 0.1),
                                    measured(times), 4000)
                          for replicas, with_hedge in ((1, False), (2, False), (2, True)))
    assert hedged["p99"] < two["p99"] <= plain["p99"]
    assert hedged["median"] <= two["median"] * 1.01
