"""Render every package, merge concepts that look the same, and build one pack."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

from training.data.symbols.concepts import Concept, split_of
from training.data.symbols.pack import Drawn, Pack, make_pack
from training.data.symbols.render import draw
from training.data.symbols.sources import Source, find_sources

_SHARED = 0.25
"""Two concepts are one class if they share at least this part of the drawings of either."""
_MOST_JOINED = 12
"""Most concepts that one drawing may merge; a drawing of more is a filler, such as an empty box."""


def build_pack(packages: Path, *, processes: int = 0, listen: Callable[[int, int], None] | None = None) -> Pack:
    """Render all packages in the folder ``packages`` in parallel processes.

    Args:
        processes: number of processes; 0: one per core.
        listen: called with the number of packages done and their total.

    Raises:
        DatasetError: the folder holds no packages.
    """
    sources = find_sources(packages)
    drawn: list[Drawn] = []
    with ProcessPoolExecutor(processes or len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for done, part in enumerate(pool.map(render, sources), 1):
            drawn += part
            if listen is not None:
                listen(done, len(sources))
    return pack(drawn)


def render(source: Source) -> list[Drawn]:
    """Draw all graphics of ``source``, except those that resvg cannot read and blank ones."""
    drawn = []
    for graphic in source():
        try:
            pixels = draw(graphic.svg)
        except ValueError:
            continue
        if pixels is not None:
            drawn.append(Drawn(graphic.concept, graphic.hand, pixels))
    return drawn


def pack(drawn: Iterable[Drawn]) -> Pack:
    """Make a pack in which every drawing belongs to one class: concepts that share many drawings are merged.

    A drawing that several classes share is ambiguous and left out, such as the empty box for missing letters.
    """
    different, concepts_of = _unique(drawn)
    classes = _join(concepts_of)
    members: dict[int, list[int]] = defaultdict(list)
    for index, concepts in enumerate(concepts_of):
        numbers = {classes[concept] for concept in concepts}
        if len(numbers) == 1:
            members[numbers.pop()].append(index)
    names: dict[int, list[Concept]] = defaultdict(list)
    for concept, number in sorted(classes.items()):
        names[number].append(concept)
    order = sorted(members, key=lambda number: names[number][0])
    return make_pack(
        drawings=[[different[index] for index in members[number]] for number in order],
        names=[names[number][0].name for number in order],
        families=[_family(names[number]) for number in order],
        splits=[split_of(name for concept in names[number] for name in concept.names) for number in order],
    )


def _unique(drawn: Iterable[Drawn]) -> tuple[list[Drawn], list[set[Concept]]]:
    """Return the distinct drawings, and all concepts of each."""
    places: dict[bytes, int] = {}
    different: list[Drawn] = []
    concepts: list[set[Concept]] = []
    for each in drawn:
        place = places.setdefault(each.pixels.tobytes(), len(different))
        if place == len(different):
            different.append(each)
            concepts.append(set())
        concepts[place].add(each.concept)
    return different, concepts


def _join(concepts_of: Sequence[set[Concept]]) -> dict[Concept, int]:
    """Map concepts to class numbers (union-find); two that share a quarter of the drawings of either are one class."""
    counts = Counter(concept for concepts in concepts_of for concept in concepts)
    shared = Counter(
        pair for concepts in concepts_of if len(concepts) <= _MOST_JOINED for pair in combinations(sorted(concepts), 2)
    )
    leader = {concept: concept for concept in counts}

    def find(concept: Concept) -> Concept:
        while leader[concept] != concept:
            leader[concept] = leader[leader[concept]]
            concept = leader[concept]
        return concept

    for (one, two), count in sorted(shared.items()):
        if count >= _SHARED * min(counts[one], counts[two]):
            first, second = sorted((find(one), find(two)))
            leader[second] = first
    numbers = {concept: number for number, concept in enumerate(sorted({find(concept) for concept in leader}))}
    return {concept: numbers[find(concept)] for concept in sorted(leader)}


def _family(concepts: Sequence[Concept]) -> str:
    return Counter(concept.family for concept in concepts).most_common(1)[0][0]
