"""Who is at the other end of a connection: the certificate it showed, checked against the active ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from elicense.errors import Malformed, Unauthenticated
from elicense.trust.spiffe import ActiveCertificate, Caller, parse_spiffe_id
from elicense.trust.x509 import chain_from_pem, fingerprint, not_after_us, spiffe_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from elicense.rpc.active import ActiveCertificates

PASSED_ON_KEY: Final = "x-elicense-caller-bin"
"""Metadata with the certificate of a caller whose call another process of this node passes on."""

_LOCAL: Final = [b"local"]

MAX_PEERS: Final = 10_000
"""Parsed certificates kept; about 2 KiB each."""


@dataclass(slots=True)
class _Peer:
    """A certificate as a TLS session showed it, parsed once, and the caller that its row last made of it."""

    fingerprint: bytes
    subject: str
    not_after_us: int
    row: ActiveCertificate | None = None
    caller: Caller | None = None


class Authenticator:
    """Turns the certificate of a TLS session into a caller.

    Args:
        certificates: Which certificates are in force.
        clock: UTC microseconds.
    """

    def __init__(self, *, certificates: ActiveCertificates, clock: Callable[[], int]) -> None:
        self._certificates = certificates
        self._clock = clock
        # By PEM: gRPC hands out nothing shorter that is bound to the session.
        self._peers: dict[bytes, _Peer] = {}

    async def caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Return who makes a call; role and city are those of the table, which has the last word.

        Raises:
            Unauthenticated: There is no certificate, or it is not in force here.
            Unavailable: The table can not be read.
        """
        peer = self._peer(context)
        row = await self._certificates.find(peer.fingerprint)
        if row is None or row.subject != peer.subject:
            raise Unauthenticated("this certificate is not in force here; ask the node's operator")
        now_us = self._clock()
        # TLS checked the dates once, at the handshake; a connection may outlive its certificate.
        if now_us >= peer.not_after_us or now_us >= row.not_after_us:
            raise Unauthenticated("this certificate has expired; renew it")
        if peer.caller is None or peer.row != row:
            peer.row = row
            peer.caller = Caller(parse_spiffe_id(row.subject), row.role, row.city, row.fingerprint)
        return peer.caller

    def _peer(self, context: grpc.aio.ServicerContext[Any, Any]) -> _Peer:
        pem = shown_certificate(context)
        peer = self._peers.get(pem)
        if peer is None:
            peer = _parse(pem)
            if len(self._peers) >= MAX_PEERS:
                self._peers.clear()
            self._peers[pem] = peer
        return peer


def shown_certificate(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Return the certificate (PEM) that a caller proved to have.

    On a connection of another process of this node it is the one that the caller
    showed there: only our own processes can open the socket (the type of
    the connection is the transport's word, not the caller's).

    Raises:
        Unauthenticated: There is none.
    """
    session = cast("dict[str, list[bytes]]", context.auth_context())
    pems = session.get("x509_pem_cert")
    if not pems and session.get("transport_security_type") == _LOCAL:
        metadata = cast("tuple[tuple[str, bytes], ...]", context.invocation_metadata())
        pems = [value for key, value in metadata if key == PASSED_ON_KEY]
    if not pems:
        raise Unauthenticated("a client certificate is required")
    return pems[0]


def _parse(pem: bytes) -> _Peer:
    try:
        certificate = chain_from_pem(pem)[0]
        subject = str(spiffe_id_of(certificate))
    except Malformed as error:
        raise Unauthenticated("the client certificate must carry exactly one SPIFFE ID") from error
    return _Peer(fingerprint(certificate), subject, not_after_us(certificate))
