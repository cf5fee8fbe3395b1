"""``make simulate SEEDS=10000``: many seeds, on every core; the first that fails is told, and how to run it again."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from tests.simulation.scenario import Outcome, simulate
from tests.simulation.template import Template, make_template

#: What is told of all seeds together.
_COUNTED: Final = (
    "steps",
    "crashes",
    "acknowledged",
    "erased",
    "moved",
    "renumbered",
    "barred",
    "ruled",
    "restored",
    "quarantined",
    "verdicts",
    "checks",
)

_template: list[Template] = []


def _prepare(folder: str) -> None:
    own = Path(folder) / str(os.getpid())
    scratch = memory() / f"{Path(folder).name}-{os.getpid()}"
    for made in (own, scratch):
        made.mkdir()
    # What nodes say of each disaster is of no use here.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.ReturnLoggerFactory())
    _template.append(asyncio.run(make_template(own, scratch)))


def memory() -> Path:
    """Return a folder in memory, where there is one: a crash in the simulation loses nothing that a disk would keep."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _one(seed: int) -> Outcome:
    return simulate(seed, _template[0])


def tell(outcome: Outcome) -> str:
    """Return a failed seed in words."""
    events = "\n".join(outcome.events)
    return f"{events}\nseed {outcome.seed} (trace {outcome.trace}): {outcome.violation}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("seeds", type=int, help="How many seeds.")
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="How many run at a time.")
    words = parser.parse_args()
    started, total = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with ProcessPoolExecutor(words.jobs, initializer=_prepare, initargs=(folder,)) as pool:
                for outcome in pool.map(_one, range(words.first, words.first + words.seeds), chunksize=4):
                    if outcome.violation is not None:
                        print(f"{tell(outcome)}\nagain: make simulate SEEDS=1 FIRST={outcome.seed}")  # noqa: T201
                        pool.shutdown(cancel_futures=True)
                        sys.exit(1)
                    total.update({name: getattr(outcome, name) for name in _COUNTED}, seeds=1)
        finally:
            for scratch in memory().glob(f"{Path(folder).name}-*"):
                shutil.rmtree(scratch)
    counted = ", ".join(f"{total[name]:,} {name}" for name in ("seeds", *_COUNTED))
    print(f"{counted}: no promise broken ({time.monotonic() - started:.0f} s)")  # noqa: T201


if __name__ == "__main__":
    main()
