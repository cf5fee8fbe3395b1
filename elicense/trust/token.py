"""Join tokens: one line of text that lets its bearer enrol once.

A token holds a short-lived certificate with its key, which may call Enroll and
nothing else, and the national root, so that the joiner needs to trust nothing
that it did not get with the token.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from elicense.errors import Malformed
from elicense.trust.credentials import Credentials, make_credentials
from elicense.trust.roles import Role
from elicense.trust.spiffe import SpiffeId, identify, issuing_node, parse_spiffe_id, server_name
from elicense.trust.x509 import from_der, generate_key, not_after_us, public_key_matches, spiffe_id_of, to_der
from elicense.v1 import enrollment_pb2

if TYPE_CHECKING:
    from cryptography import x509

    from elicense.trust.x509 import Authority, Validity

PREFIX: Final = "EL1."
"""Starts every token; the digit is the version of the form."""

MAX_TOKEN_CHARACTERS: Final = 8192
MAX_CHAIN: Final = 4
TOKEN_ID_BYTES: Final = 16

_SCALAR_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token, opened and checked.

    Attributes:
        address: Address of the node to join, host:port.
        root: The national root.
        chain: The token's certificate, then its issuers without the root.
        key: Key of the token's certificate.
        subject: SPIFFE ID that the bearer will get.
    """

    address: str
    root: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    subject: SpiffeId

    @property
    def token_id(self) -> bytes:
        """The token's number, 16 bytes."""
        return token_id_of(spiffe_id_of(self.chain[0]))

    @property
    def expires_us(self) -> int:
        """When its certificate ends, microseconds UTC; the token itself ends a little earlier."""
        return not_after_us(self.chain[0])

    @property
    def node(self) -> SpiffeId:
        """The node that made the token and is to be joined."""
        return issuing_node(spiffe_id_of(self.chain[1]))

    def credentials(self) -> Credentials:
        """Return the credentials with which to call Enroll."""
        return make_credentials(
            key=self.key, chain=self.chain, root=self.root, address=self.address, server_name=server_name(self.node)
        )


def enrollee_id(trust_domain: str, token_id: bytes) -> SpiffeId:
    """Return the SPIFFE ID that the bearer of a token calls under."""
    return SpiffeId(trust_domain, (Role.ENROLLEE.value, token_id.hex()))


def token_id_of(enrollee: SpiffeId) -> bytes:
    """Return the number of the token behind an enrollee's SPIFFE ID; the inverse of :func:`enrollee_id`.

    Raises:
        Malformed: The ID is not that of an enrollee.
    """
    match enrollee.path:
        case (Role.ENROLLEE.value, text) if len(text) == 2 * TOKEN_ID_BYTES:
            try:
                token_id = bytes.fromhex(text)
            except ValueError as error:
                raise Malformed("the number of a join token is hexadecimal") from error
            if token_id.hex() == text:
                return token_id
    raise Malformed("this SPIFFE ID is not that of the bearer of a join token")


def make_token(
    *,
    authority: Authority,
    root: x509.Certificate,
    address: str,
    subject: SpiffeId,
    token_id: bytes,
    validity: Validity,
) -> JoinToken:
    """Return a new token.

    Args:
        authority: The node's authority, which signs the token's certificate.
        root: The national root.
        address: Where to join.
        subject: Who the bearer will be.
        token_id: Number of the token, 16 random bytes.
        validity: Of the token's certificate.
    """
    key = generate_key()
    certificate = authority.issue_leaf(
        subject=enrollee_id(subject.trust_domain, token_id), public_key=key.public_key(), validity=validity
    )
    return JoinToken(address=address, root=root, chain=authority.chain_of(certificate), key=key, subject=subject)


def format_token(token: JoinToken) -> str:
    """Return a token as one line of text."""
    message = enrollment_pb2.JoinToken(
        address=token.address,
        root_certificate=to_der(token.root),
        certificate_chain=[to_der(certificate) for certificate in token.chain],
        private_key=token.key.private_numbers().private_value.to_bytes(_SCALAR_BYTES, "big"),
        subject=str(token.subject),
    )
    return PREFIX + urlsafe_b64encode(message.SerializeToString()).decode().rstrip("=")


def parse_token(text: str) -> JoinToken:
    """Return the token in ``text``; white space around it is ignored.

    Raises:
        Malformed: It is not a token, or was damaged on its way.
    """
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MAX_TOKEN_CHARACTERS:
        raise Malformed(f"a join token is one line that starts with {PREFIX}; copy it whole")
    body = text.removeprefix(PREFIX)
    damaged = Malformed("the join token is damaged; copy it again, whole")
    try:
        serialized = urlsafe_b64decode(body + "=" * (-len(body) % 4))
        message = enrollment_pb2.JoinToken.FromString(serialized)
        if urlsafe_b64encode(serialized).decode().rstrip("=") != body:
            raise damaged
        if len(message.private_key) != _SCALAR_BYTES or not 2 <= len(message.certificate_chain) <= MAX_CHAIN:
            raise damaged
        key = ec.derive_private_key(int.from_bytes(message.private_key, "big"), ec.SECP256R1())
    except (ValueError, DecodeError) as error:
        # The cause may quote the token, which holds a key.
        del error
        raise damaged from None
    token = JoinToken(
        address=message.address,
        root=from_der(message.root_certificate),
        chain=tuple(from_der(der) for der in message.certificate_chain),
        key=key,
        subject=parse_spiffe_id(message.subject),
    )
    identify(token.subject)
    if not message.address or not public_key_matches(token.chain[0], key) or not token.token_id or not token.node:
        raise damaged
    return token
