"""The arithmetic of the capacity model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.scale_model import Choice, Node, breaks, need, search_ms, slowest, times, waits

#: A request takes 5 ms of CPU; a search of a million classes ten more, ten times fewer half of that.
NODE = Node(
    network_ms=5.0,
    base_ms=6.0,
    search_ms=((100_000, 5.0), (1_000_000, 10.0)),
    bytes_per_class=1000.0,
    fill_per_s=1000.0,
    levels=[0.0, 0.5, 0.99, 1.0],
    shape=[0.8, 1.0, 2.0, 4.0],
)
CHOICE = Choice(cores=10, gigabytes=10, price_per_hour=1.0, used=0.5, memory_used=0.5, copies=2, call_ms=0.0)
MEASURED = {"requests": 10_000, "median_ms": 2.0, "levels": [0.0, 0.5, 1.0], "quantiles_ms": [1.0, 2.0, 8.0]}


def chance() -> np.random.Generator:
    return np.random.default_rng(1)


def test_a_search_is_what_was_measured_between_and_beyond():
    assert search_ms(NODE, 100_000) == pytest.approx(5.0)
    assert search_ms(NODE, 1_000_000) == pytest.approx(10.0)
    assert search_ms(NODE, 316_228) == pytest.approx(math.sqrt(50), rel=1e-4)
    assert search_ms(NODE, 10_000_000) == pytest.approx(20.0)
    assert search_ms(NODE, 50_000) == pytest.approx(2.5)


def test_waits_are_erlangs():
    assert waits(1, 0.7) == pytest.approx(0.7)  # M/M/1
    assert waits(2, 0.5) == pytest.approx(1 / 3)
    assert waits(10, 0.8) == pytest.approx(0.4092, abs=1e-4)  # 8 erlangs on 10 servers, as in tables
    assert waits(100, 0.6) < 1e-4


def test_times_have_the_measured_shape_when_nobody_waits():
    idle = replace(CHOICE, cores=1000, used=0.1)
    found = times(NODE, idle, 3.0, (200_000,), chance())
    assert np.quantile(found, 0.5) == pytest.approx(3.0, rel=0.01)
    assert np.quantile(found, 0.99) == pytest.approx(6.0, rel=0.02)
    assert found.min() >= 2.4
    assert found.max() <= 12.0


def test_waiting_takes_as_long_as_in_a_queue():
    flat = replace(NODE, shape=[1.0] * 4)
    found = times(flat, replace(CHOICE, cores=1, used=0.5), 2.0, (400_000,), chance())
    assert found.mean() == pytest.approx(2.0 + 0.5 * 4.0, rel=0.02)  # half wait, 1 / (mu - lambda) = 4 ms


def test_the_slowest_of_many_is_an_order_statistic():
    idle = replace(CHOICE, cores=1000, used=0.1)
    for shards in (1, 10, 100):
        found = slowest(NODE, idle, 1.0, shards, hedged=False, requests=40_000, chance=chance())
        for share in (0.5, 0.99):
            exact = float(np.interp(share ** (1 / shards), NODE.levels, NODE.shape))
            assert np.mean(found <= exact) == pytest.approx(share, abs=0.01 if share == 0.5 else 0.002)


def test_hedging_cuts_the_tail_and_leaves_the_median():
    idle = replace(CHOICE, cores=1000, used=0.1)
    plain, hedged = (
        slowest(NODE, idle, 1.0, 50, hedged=each, requests=20_000, chance=chance()) for each in (False, True)
    )

    def beyond(time: float) -> float:
        return 1 - float(np.interp(time, NODE.shape, NODE.levels))

    delay = float(np.interp(0.95, NODE.levels, NODE.shape))
    assert np.mean(plain > 3.5) == pytest.approx(1 - (1 - beyond(3.5)) ** 50, abs=0.01)
    assert np.mean(hedged > 3.5) == pytest.approx(1 - (1 - beyond(3.5) * beyond(3.5 - delay)) ** 50, abs=0.01)
    assert np.mean(hedged > 3.5) < np.mean(plain > 3.5) / 3
    one = [slowest(NODE, idle, 1.0, 1, hedged=each, requests=20_000, chance=chance()) for each in (False, True)]
    assert np.median(one[1]) == pytest.approx(np.median(one[0]), rel=0.01)


def test_machines_by_hand():
    # 100 requests/s * (5 + 10) ms = 1.5 cores, at half use 3; a million classes twice, 2 GB, of which half may be used
    small = need(NODE, CHOICE, 1_000_000, 100, 1_000_000, requests=100)
    assert (small.shards, small.machines, small.binds) == (1, 2, "the copies")
    assert small.cores == pytest.approx(3.0)
    assert small.gigabytes == pytest.approx(4.0)
    assert small.price == pytest.approx(2 * 730)
    # 10 shards of a million: 100 requests/s * (5 + 100) ms at half use are 21 cores; 40 GB are 4 machines
    memory = need(NODE, CHOICE, 10_000_000, 100, 1_000_000, requests=100)
    assert (memory.shards, memory.machines, memory.binds) == (10, 4, "memory")
    assert memory.cores == pytest.approx(21.0)
    busy = need(NODE, CHOICE, 10_000_000, 10_000, 1_000_000, requests=100)
    assert (busy.machines, busy.binds) == (210, "CPU of the search")
    network = need(replace(NODE, network_ms=50.0), CHOICE, 1_000_000, 1000, 1_000_000, requests=100)
    assert (network.machines, network.binds) == (12, "CPU of the network")
    called = need(NODE, replace(CHOICE, call_ms=1.0), 10_000_000, 100, 1_000_000, requests=100)
    assert called.cores == pytest.approx(23.0)


def test_more_shards_are_slower_and_the_seed_decides():
    found = [need(NODE, CHOICE, classes, 100, 1_000_000, requests=4000) for classes in (10**6, 10**7, 10**8)]
    assert found[0].p99 < found[1].p99 < found[2].p99
    assert all(each.p50 < each.p99 for each in found)
    assert need(NODE, CHOICE, 10**7, 100, 1_000_000, requests=4000) == found[1]


def test_limits_by_hand():
    found = breaks(NODE, CHOICE)
    assert found["classes in the memory of one machine"] == pytest.approx(5e6)
    assert found["requests/s of one machine, small gallery"] == pytest.approx(1000.0)
    assert found["requests/s of one machine, largest measured gallery"] == pytest.approx(10 * 0.5 * 1000 / 15)
    assert found["classes at which a search costs as much as the network"] == pytest.approx(100_000, rel=1e-3)
    assert found["classes that one writer enrols in a day"] == pytest.approx(86.4e6)


def test_a_node_is_read_from_the_records():
    looks: list[dict[str, Any]] = [
        {"contestant": "oneshot, raw bodies", "material": "queries", "connections": connections, "cpu": cpu}
        for connections, cpu in ((1, 9.0), (64, 4.0), (64, 5.0), (64, 7.0))
    ]
    looks.append({"contestant": "mosec", "material": "queries", "connections": 64, "cpu": 1.0})
    sizes = {
        str(classes): {"classes": classes, "p50_ms": p50, "megabytes": classes * 1.1e-3}
        for classes, p50 in ((1000, 7.0), (10_000, 6.0), (100_000, 9.0), (1_000_000, 21.0))
    }
    bulk = {"ways": {"one by one": [70.0], "batches of 1,000, one at a time": [1000.0, 1400.0, 1200.0]}}
    node = scale.read_node({"looks": looks}, {"sizes": sizes, "bulk": bulk}, MEASURED)
    assert (node.network_ms, node.base_ms, node.fill_per_s) == (5.0, 6.0, 1200.0)
    assert node.search_ms == ((100_000, 3.0), (1_000_000, 15.0))
    assert node.bytes_per_class == pytest.approx(1100.0)
    assert list(node.shape) == [0.5, 1.0, 4.0]


def test_the_page_comes_from_the_records_and_the_choice(tmp_path: Path):
    for name in ("benchmarks", "benchmarks-gallery"):
        (tmp_path / f"{name}.json").write_bytes((scale._DOCS / f"{name}.json").read_bytes())
    run = {"date": "2026-01-01", "machine": "M", "versions": "V"}
    (tmp_path / "scale.json").write_text(json.dumps({"measured": {**MEASURED, "load": 0.1, "run": run}}))
    (tmp_path / "images").mkdir()
    scale.main(["--docs", str(tmp_path), "--simulated", "50", "--price", "7.25"])
    page = (tmp_path / "scale.md").read_text("utf-8")
    assert "| 7.25 an hour |" in page
    assert sum(line.startswith("| 1,000,000,000 |") for line in page.splitlines()) == 8
    assert (tmp_path / "images" / "scale.png").stat().st_size > 5000
