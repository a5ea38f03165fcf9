"""The arithmetic of docs/scale.md: what a gallery of so many classes at so many requests a second needs.

Nothing here is measured; figures come in as `Node` (what one node was measured to do) and `Choice` (what was chosen or
assumed). A gallery that fits into one measured index is searched by each node alone. A larger one lies in shards: the
request is embedded once, every shard is searched, and the answer waits for the slowest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Times: TypeAlias = npt.NDArray[np.float64]

_HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Node:
    """What one node was measured to do.

    `network_ms`: CPU of a request in a small gallery. `search_ms`: by number of classes (ascending), what a search
    takes longer than in the smallest gallery. `base_ms`: the median time of a request there. `bytes_per_class` of
    memory. `levels` and `shape`: the quantiles of the time of one request, as multiples of its median.
    """

    network_ms: float
    base_ms: float
    search_ms: tuple[tuple[int, float], ...]
    bytes_per_class: float
    fill_per_s: float
    levels: Sequence[float]
    shape: Sequence[float]


@dataclass(frozen=True)
class Choice:
    """What was chosen or assumed: machines, their price, how far they are used, and what a call to a shard costs."""

    cores: int = 16
    gigabytes: float = 64.0
    price_per_hour: float = 0.60
    used: float = 0.6
    memory_used: float = 0.8
    copies: int = 2
    call_ms: float = 0.5
    hedge_at: float = 0.95


@dataclass(frozen=True)
class Need:
    """What a gallery at a rate needs. Times in ms, money a month; `binds` is what sets the number of machines."""

    classes: int
    rate: float
    shards: int
    shard_classes: int
    cores: float
    gigabytes: float
    machines: int
    price: float
    binds: str
    p50: float
    p99: float
    p99_hedged: float


def search_ms(node: Node, classes: int) -> float:
    """CPU of one search: between measured sizes, and beyond them, on a line through logarithms of both."""
    sizes, times = zip(*node.search_ms, strict=True)
    if classes <= sizes[0]:
        return float(times[0] * classes / sizes[0])
    place = min(int(np.searchsorted(sizes, classes)), len(sizes) - 1)
    (x0, x1), (y0, y1) = np.log(sizes[place - 1 : place + 1]), np.log(times[place - 1 : place + 1])
    return float(math.exp(y0 + (y1 - y0) * (math.log(classes) - x0) / (x1 - x0)))


def waits(servers: int, used: float) -> float:
    """The share of requests that have to wait for one of so many servers (Erlang C), each used so far on average."""
    load, term, total = servers * used, 1.0, 0.0
    for number in range(servers):
        total += term
        term *= load / (number + 1)
    last = term / (1 - used)
    return last / (total + last)


def times(node: Node, choice: Choice, median: float, size: tuple[int, ...], chance: np.random.Generator) -> Times:
    """Times of requests that take `median` ms when nothing else runs: of the measured shape, after a wait in line.

    The wait is that of M/M/c: none, or exponential, for a core of one machine.
    """
    own = median * np.interp(chance.random(size), node.levels, node.shape)
    spare = choice.cores * (1 - choice.used) / median
    waiting = chance.random(size) < waits(choice.cores, choice.used)
    found: Times = own + np.where(waiting, chance.exponential(1 / spare, size), 0.0)
    return found


def slowest(
    node: Node,
    choice: Choice,
    median: float,
    shards: int,
    *,
    hedged: bool,
    requests: int,
    chance: np.random.Generator,
) -> Times:
    """The time of the slowest of so many shards, for each of the simulated requests.

    Hedged, a shard that has not answered by the time that `hedge_at` of all have is asked a second time, at another
    copy; the sooner of the two counts (Dean and Barroso, The Tail at Scale, 2013).
    """
    delay = float(np.quantile(times(node, choice, median, (20_000,), chance), choice.hedge_at))
    found = np.zeros(requests)
    for start in range(0, shards, 64):  # in parts, because all at once would take gigabytes
        size = (requests, min(64, shards - start))
        each = times(node, choice, median, size, chance)
        if hedged:
            again = delay + times(node, choice, median, size, chance)
            each = np.where(each > delay, np.minimum(each, again), each)
        found = np.maximum(found, each.max(axis=1))
    return found


def need(
    node: Node, choice: Choice, classes: int, rate: float, shard_classes: int, *, requests: int = 20_000, seed: int = 0
) -> Need:
    """What the gallery needs with shards of at most so many classes."""
    shards = math.ceil(classes / shard_classes)
    part = math.ceil(classes / shards)
    searching = shards * (search_ms(node, part) + (choice.call_ms if shards > 1 else 0.0))
    cores = rate * (node.network_ms + searching) / 1000 / choice.used
    gigabytes = choice.copies * classes * node.bytes_per_class / 1e9 / choice.memory_used
    wanted = {
        "the copies": choice.copies,
        "memory": _whole(gigabytes / choice.gigabytes),
        "CPU of the network" if node.network_ms > searching else "CPU of the search": _whole(cores / choice.cores),
    }
    binds = max(wanted, key=wanted.__getitem__)
    chance = np.random.default_rng(seed)
    latency = {}
    for hedged in (False, True):
        if shards == 1:
            whole = node.base_ms + search_ms(node, part)
            latency[hedged] = slowest(node, choice, whole, 1, hedged=hedged, requests=requests, chance=chance)
            continue
        front = times(node, choice, node.base_ms, (requests,), chance)
        median = search_ms(node, part) + choice.call_ms
        back = slowest(node, choice, median, shards, hedged=hedged, requests=requests, chance=chance)
        latency[hedged] = front + back
    return Need(
        classes=classes,
        rate=rate,
        shards=shards,
        shard_classes=part,
        cores=cores,
        gigabytes=gigabytes,
        machines=wanted[binds],
        price=wanted[binds] * choice.price_per_hour * _HOURS_A_MONTH,
        binds=binds,
        p50=float(np.quantile(latency[False], 0.5)),
        p99=float(np.quantile(latency[False], 0.99)),
        p99_hedged=float(np.quantile(latency[True], 0.99)),
    )


def _whole(machines: float) -> int:
    return math.ceil(round(machines, 6))


def breaks(node: Node, choice: Choice) -> dict[str, float]:
    """Where each limit lies, in classes, requests a second, or shards."""
    room = choice.gigabytes * choice.memory_used * 1e9
    largest = node.search_ms[-1][0]
    whole = node.network_ms + search_ms(node, largest)
    return {
        "classes in the memory of one machine": room / node.bytes_per_class,
        "requests/s of one machine, small gallery": choice.cores * choice.used * 1000 / node.network_ms,
        "requests/s of one machine, largest measured gallery": choice.cores * choice.used * 1000 / whole,
        "classes at which a search costs as much as the network": _equal(node),
        "classes that one writer enrols in a day": 86_400 * node.fill_per_s,
        "shards of which half of all requests meet one beyond its p99": math.log(0.5) / math.log(0.99),
    }


def _equal(node: Node) -> float:
    low, high = 1.0, 1e12
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if search_ms(node, round(middle)) < node.network_ms else (low, middle)
    return low
