"""What the registry signed is a part of its log, also where it makes no sense."""

from __future__ import annotations

import pytest

from city_node.mirror_page import check_page, recorded_us
from elicense.clock import to_timestamp
from elicense.log.model import LogKey
from elicense.log.tree import EMPTY_RANGE
from elicense.v1 import log_pb2, recovery_pb2
from tests.support.histories import History, key_of

REGISTRY = LogKey(0, 1)


def page_of(record: bytes) -> recovery_pb2.ReadRegistryLogResponse:
    shown = History(REGISTRY, [record])
    return recovery_pb2.ReadRegistryLogResponse(
        entries=[log_pb2.LogEntry(record=record, salt=shown.salt(0))],
        heads=[recovery_pb2.SignedHead(size=1, note=shown.note())],
        head=shown.note(),
        open_epoch=1,
    )


def test_an_entry_states_when_it_was_decided() -> None:
    record = log_pb2.RegistryRecord(record_time=to_timestamp(1_800_000_000_000_007)).SerializeToString()
    ((part, tree),) = check_page(page_of(record), EMPTY_RANGE, key_of(REGISTRY))
    assert tree.size == 1
    assert recorded_us(part) == 1_800_000_000_000_007


@pytest.mark.parametrize("record", [b"\xff", b"\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x12\x02\x10\x7f"])
def test_an_entry_that_states_no_time_is_mirrored_all_the_same(record: bytes) -> None:
    ((part, _),) = check_page(page_of(record), EMPTY_RANGE, key_of(REGISTRY))
    assert recorded_us(part) == 0
