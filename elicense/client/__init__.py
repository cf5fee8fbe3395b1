"""The verifier's SDK: connect, verify, read the verdict.

::

    from elicense.client import Purpose, connect

    with connect("police-credentials") as client:
        verdict = client.verify("110101199003070134", purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")
        print(verdict.outcome.name, verdict.summary)

The folder is what ``elicense join`` made: it holds key and certificate, and knows
which node to ask.  :func:`connect_async` gives the same client for code with an
event loop.

An unknown, suspended or expired licence is an answer, not an error.  An error of
:mod:`elicense.errors` means that the question could not be answered; it is of the
class that the server raised, so ``except Malformed as error`` and
``error.violations`` work across the wire.
"""

from __future__ import annotations

from pathlib import Path

from elicense.client.accesses import Access, Accesses, AsyncAccesses, Completeness
from elicense.client.asynchronous import AsyncClient
from elicense.client.blocking import Client
from elicense.client.verdict import Freshness, LastKnown, Question, SignedVerdict, Source, Verdict
from elicense.license.model import DocumentType
from elicense.license.verdict import LetterStanding, Outcome, VerdictReason
from elicense.rpc.channel import DEFAULT_TIMEOUT_S
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.roles import Purpose

__all__ = [
    "Access",
    "Accesses",
    "AsyncAccesses",
    "AsyncClient",
    "Client",
    "Completeness",
    "DocumentType",
    "Freshness",
    "LastKnown",
    "LetterStanding",
    "Outcome",
    "Purpose",
    "Question",
    "SignedVerdict",
    "Source",
    "Verdict",
    "VerdictReason",
    "connect",
    "connect_async",
]


def connect(
    credentials: Path | str | Credentials, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Client:
    """Return a client of the node that the credentials belong to.

    Nothing is sent yet; the first call opens the connection.

    Args:
        credentials: Folder that ``elicense join`` made, or credentials that were loaded already.
        address: Where that node is reached, host:port, if not where the credentials say.
        timeout_s: Seconds after which a call fails with :class:`~elicense.errors.PeerUnreachable`.

    Raises:
        NotFound: A file of the folder is missing.
        Malformed: A file can not be read, or the key is open to other users.
    """
    return Client(_loaded(credentials), address=address, timeout_s=timeout_s)


def connect_async(
    credentials: Path | str | Credentials, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> AsyncClient:
    """Return a client for the running event loop; arguments and errors as :func:`connect`."""
    return AsyncClient(_loaded(credentials), address=address, timeout_s=timeout_s)


def _loaded(credentials: Path | str | Credentials) -> Credentials:
    if isinstance(credentials, Credentials):
        return credentials
    return load_credentials(Path(credentials))
