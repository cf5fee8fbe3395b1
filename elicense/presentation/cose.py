"""COSE_Sign1 with Ed25519 (RFC 9052, 4.2), strict: one form, one algorithm, everything protected.

The object is tagged 18; algorithm, content type and key id stand in the protected
header; the unprotected header is empty, since nobody signs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from elicense.errors import Malformed, SignatureInvalid
from elicense.presentation import cbor

if TYPE_CHECKING:
    from elicense.trust.signer import Signer

MAX_SIZE: Final = 8_192
"""Most bytes of a signed object; an answer takes about 400."""

_TAG_18: Final = b"\xd2"
_ALGORITHM, _CONTENT_TYPE, _KEY_ID = 1, 3, 4
_EDDSA: Final = -8
_SIGNATURE_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class Signed:
    """A COSE_Sign1 object whose signature has not been looked at yet.

    Attributes:
        protected: Its protected header, as it was signed.
        content_type: What the payload is.
        key_id: Which key signed it: a hint, not a proof.
        payload: What was signed.
        signature: 64 bytes.
    """

    protected: bytes
    content_type: str
    key_id: bytes
    payload: bytes
    signature: bytes

    def verify(self, public_key: bytes) -> None:
        """Check the signature.

        Raises:
            SignatureInvalid: This key did not sign it.
        """
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(
                self.signature, _to_be_signed(self.protected, self.payload)
            )
        except (InvalidSignature, ValueError):
            raise SignatureInvalid("the signature does not fit the key") from None


def sign(payload: bytes, *, content_type: str, key_id: bytes, signer: Signer) -> bytes:
    """Return a payload as a signed object."""
    protected = cbor.encode({_ALGORITHM: _EDDSA, _CONTENT_TYPE: content_type, _KEY_ID: key_id})
    signature = signer.sign(_to_be_signed(protected, payload))
    return _TAG_18 + cbor.encode([protected, {}, payload, signature])


def parse(data: bytes) -> Signed:
    """Read a signed object; says nothing yet about who signed it.

    Raises:
        Malformed: It is not a COSE_Sign1 in the one form that :func:`sign` writes.
    """
    if data[:1] != _TAG_18:
        raise Malformed("the signed object is not a COSE_Sign1")
    match cbor.decode(data[1:], max_size=MAX_SIZE):
        case [bytes(protected), {**unprotected}, bytes(payload), bytes(signature)] if not unprotected:
            pass
        case _:
            raise Malformed("the signed object is not a COSE_Sign1")
    match cbor.decode(protected, max_size=MAX_SIZE):
        case {1: -8, 3: str(content_type), 4: bytes(key_id), **rest} if not rest:
            pass
        case _:
            raise Malformed("the signed object must name Ed25519, its content type and its key, and nothing else")
    if len(signature) != _SIGNATURE_SIZE:
        raise Malformed("the signature of the signed object has another length")
    return Signed(protected, content_type, key_id, payload, signature)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, b"", payload])
