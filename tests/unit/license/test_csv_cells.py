"""Cells that mean something: what is kept of those that a hostile file is full of."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from elicense.license.csv_cells import read_classes, read_day

MIB = 1 << 20


@pytest.mark.parametrize("read", [read_day, read_classes], ids=["days", "classes"])
@pytest.mark.parametrize("start", ["", "C1:2020-01-02::"], ids=["wrong", "right"])
def test_cells_as_long_as_a_row_may_be_are_not_kept_in_memory(read: Callable[[str], object], start: str) -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            read(f"{start}{number:060000d}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MIB
