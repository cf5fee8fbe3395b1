"""Making links between the documents of one person in the national view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elicense.errors import Aborted
from elicense.log.model import REGISTRY_LOG, LogKey
from registry.links import AskedLink, GrantEntry
from registry.model import Claim, ClaimState
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def make_links(conn: Connection, store: RegistryStore, asked: Sequence[AskedLink]) -> None:
    """Make the links that records were granted, in the transaction that folds them.

    What stands under a later document, which is at its end or still waits, moves along.

    Raises:
        Aborted: Another transaction links the same persons just now; send again.
    """
    for each in asked:
        _make(conn, store, each)


def _make(conn: Connection, store: RegistryStore, asked: AskedLink) -> None:
    link = asked.link
    ends = [link.person_key, link.first_key]
    known = store.view.links.of(conn, ends)
    source, target = (known.get(key, key) for key in ends)
    if source == target:
        return
    # Whoever links either end, or folds what stands under it, takes its claim first.
    claim = store.claims.of(conn, [source, target], lock=True).get(source)
    if store.view.links.of(conn, ends) != known:
        raise Aborted("a person has got another number meanwhile; send again")
    if _may_have(conn, store, asked, source, claim):
        store.unite(conn, replace(link, person_key=source, first_key=target))


def _may_have(conn: Connection, store: RegistryStore, asked: AskedLink, source: bytes, claim: Claim | None) -> bool:
    """Whether a person may be known under the other tag: their city was granted them and has not used it yet."""
    if claim is None or claim.state == ClaimState.RELEASED:
        # A registry that was set back has lost the grant; as nobody has the person, it would give it again.
        return not store.bans.of(conn, [source])
    if (claim.city, claim.state) != (asked.link.city, int(ClaimState.LEASED)):
        return False
    epoch, index = asked.grant
    entry = store.logs.entries_at(conn, LogKey(REGISTRY_LOG, epoch), [index]).get(index)
    granted = GrantEntry.read(None if entry is None else entry.record)
    return granted.city == asked.link.city and source in granted.persons
