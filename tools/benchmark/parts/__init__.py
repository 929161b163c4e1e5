"""The parts of tools/bench: what each measures, and in which order they run."""

from __future__ import annotations

from collections.abc import Callable

from bench import Bench
from parts import changes, clone, copies, growth, special

PARTS: dict[str, Callable[[Bench], None]] = {
    "dump": copies.dump,
    "restore": copies.restore,
    "plain": copies.plain,
    "clone": clone.clone,
    "dedup": changes.dedup,
    "nights": changes.nights,
    "memory": special.memory,
    "jobs": growth.jobs,
    "rows": growth.rows,
    "chunks": growth.chunks,
    "objects": special.objects,
    "sealed": special.sealed,
    "remote": special.remote,
}
"""By name, in order; what a part does is said by the first line of its function."""
