"""What a clerk hears of the registry's own troubles."""

from __future__ import annotations

import pytest

from city_node.registry_faults import as_registry_fault
from elicense import errors


@pytest.mark.parametrize(
    "fault",
    [
        errors.StoreCorrupt("x"),
        errors.StoreFull("x"),
        errors.QueueFull("x"),
        errors.Unauthenticated("x"),
        errors.CallerNotAllowed("x"),
        errors.Aborted("x"),
        errors.Error("x"),
        errors.PeerUnreachable("x"),
    ],
    ids=lambda fault: fault.reason,
)
def test_a_fault_of_the_registry_is_a_registry_that_can_not_be_reached(fault: errors.Error) -> None:
    raised = as_registry_fault(fault)
    assert isinstance(raised, errors.RegistryUnreachable)
    assert raised.metadata == {"cause": fault.reason}


def test_what_the_registry_says_of_the_request_itself_reaches_the_clerk() -> None:
    for error in (errors.Malformed("x"), errors.PersonClaimed("x"), errors.Refused("x"), errors.QuotaExceeded("x")):
        assert as_registry_fault(error) is error
