"""What a failed call to the registry means for whoever waits at this city."""

from __future__ import annotations

from typing import Final

from elicense.errors import (
    AlreadyExists,
    ConflictNotFound,
    Error,
    Malformed,
    QuotaExceeded,
    Refused,
    RegistryUnreachable,
    Unavailable,
    WatchesExhausted,
)

#: What the registry says of the request or its sender; everything else is the registry's own trouble.
ABOUT_THE_REQUEST: Final = (
    Malformed,
    AlreadyExists,
    ConflictNotFound,
    Refused,
    QuotaExceeded,
    WatchesExhausted,
)


def as_registry_fault(error: Error) -> Error:
    """Return an error about the request as it is, and :class:`RegistryUnreachable` for every other.

    A registry with a full disk, a damaged store or a revoked city answers, but is
    of no more use to a person at the counter than one that is away: the same
    policy decides.  The metadata's ``cause`` says what it was.
    """
    if isinstance(error, ABOUT_THE_REQUEST):
        return error
    if isinstance(error, Unavailable):
        text = "the registry can not be reached; try again once it is back"
    else:
        text = f"the registry can not do its work now ({error.reason}); try again once its operator has mended it"
    return RegistryUnreachable(text, cause=error.reason)
