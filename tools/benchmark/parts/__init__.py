"""The parts of tools/bench: what each measures, and in which order they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import Bench
from parts import changes, clone, copies, growth, special


@dataclass(frozen=True)
class Part:
    """What can be asked for by name."""

    run: Callable[[Bench], None]
    """The first line of its documentation says what is measured."""
    room: float
    """GB that it writes at full scale, without the databases that it measures: dumps, repositories, what is restored."""


PARTS: dict[str, Part] = {
    "dump": Part(copies.dump, 8),
    "restore": Part(copies.restore, 14),
    "plain": Part(copies.plain, 7),
    "clone": Part(clone.clone, 9),
    "dedup": Part(changes.dedup, 5),
    "nights": Part(changes.nights, 15),
    "memory": Part(special.memory, 6),
    "jobs": Part(growth.jobs, 9),
    # These two look themselves, for each size.
    "rows": Part(growth.rows, 0),
    "chunks": Part(growth.chunks, 0),
    "objects": Part(special.objects, 2),
    "sealed": Part(special.sealed, 10),
    "remote": Part(special.remote, 8),
}
"""By name, in order."""
