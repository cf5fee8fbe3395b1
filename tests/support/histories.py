"""Logs in memory with as many histories as a test wants, the keys that sign them, and a node that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from elicense.client.transparency import ListedLog
from elicense.errors import Malformed, NotFound
from elicense.log.checkpoint import Checkpoint, cosign, cosigner_verifier_key, log_verifier_key, sign_checkpoint
from elicense.log.entry import commitment
from elicense.log.merkle import consistency_proof, inclusion_proof
from elicense.log.model import LogKey
from elicense.log.proof_file import EntryProof
from elicense.log.tree import hash_leaf, subtree_root
from elicense.log.verifier_key import VerifierKey, format_vkey
from elicense.trust.signer import FileSigner
from elicense.v1 import log_pb2

DOMAIN = "elicense.test"
COSIGNER = f"{DOMAIN}/registry/cosigner"


def signer(seed: str) -> FileSigner:
    return FileSigner(Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest()))


def origin_of(key: LogKey) -> str:
    return f"{DOMAIN}/city/{key.log}/{key.epoch}" if key.log else f"{DOMAIN}/registry/{key.epoch}"


def key_of(key: LogKey) -> VerifierKey:
    return log_verifier_key(origin_of(key), signer(origin_of(key)).public_key())


COSIGNER_KEY = cosigner_verifier_key(COSIGNER, signer(COSIGNER).public_key())


@dataclass
class History:
    """One history of a log: records by index."""

    key: LogKey
    records: list[bytes] = field(default_factory=list)

    def grow(self, count: int, word: str = "a") -> History:
        self.records += [f"{word}{len(self.records) + i}".encode() for i in range(count)]
        return self

    def branch(self, size: int) -> History:
        """Another history with the same first ``size`` entries."""
        return History(self.key, self.records[:size])

    def salt(self, index: int) -> bytes:
        return sha256(b"salt%d" % index + self.records[index]).digest()

    def entries(self) -> list[bytes]:
        return [commitment(self.salt(i), record) for i, record in enumerate(self.records)]

    def leaves(self) -> list[bytes]:
        return list(map(hash_leaf, self.entries()))

    def node(self, start: int, end: int) -> bytes:
        return subtree_root(self.leaves()[start:end])

    @property
    def size(self) -> int:
        return len(self.records)

    def root(self, size: int | None = None) -> bytes:
        return subtree_root(self.leaves()[:size])

    def note(self, size: int | None = None, *, cosigned: bool = True) -> bytes:
        """The head of the first ``size`` entries, signed by the log and, a city's, cosigned."""
        head = Checkpoint(origin_of(self.key), self.size if size is None else size, self.root(size))
        note = sign_checkpoint(head, signer(head.origin))
        if cosigned and self.key.log:
            note = cosign(note, name=COSIGNER, signer=signer(COSIGNER), time_s=1)
        return note

    def consistency(self, first: int, second: int) -> list[bytes]:
        return consistency_proof(first, second, self.node)

    def proof(self, index: int) -> EntryProof:
        hashes = inclusion_proof(index, self.size, self.node)
        record, salt = self.records[index], self.salt(index)
        return EntryProof(self.key.log, self.key.epoch, index, record, salt, tuple(hashes), self.note())


def vector_of(*histories: History) -> bytes:
    """The record of a vector of these heads."""
    heads = [log_pb2.LogHead(city=h.key.log, epoch=h.key.epoch, size=h.size, root=h.root()) for h in histories]
    record = log_pb2.RegistryRecord(epoch=1, head_vector=log_pb2.HeadVector(trust_domain=DOMAIN, heads=heads))
    return record.SerializeToString(deterministic=True)


class ShownHistories:
    """A node that shows these histories, honest or not."""

    def __init__(self, *histories: History, vector: EntryProof | None = None) -> None:
        self.histories = {history.key: history for history in histories}
        self.vector_proof = vector
        self.notes: dict[LogKey, bytes] = {}

    def logs(self) -> list[ListedLog]:
        return [ListedLog(key, origin_of(key), format_vkey(key_of(key))) for key in sorted(self.histories)]

    def _of(self, key: LogKey) -> History:
        if key not in self.histories:
            raise NotFound("there is no such log")
        return self.histories[key]

    def checkpoint(self, key: LogKey, size: int | None = None) -> bytes:
        return self.notes.get(key) or self._of(key).note(size)

    def consistency(self, key: LogKey, first: int, second: int) -> list[bytes]:
        if second > self._of(key).size:
            raise Malformed("the log is not that large")
        return self._of(key).consistency(first, second)

    def leaf_hashes(self, key: LogKey, first: int, count: int) -> list[bytes]:
        return self._of(key).leaves()[first : first + count]

    def vector(self) -> EntryProof:
        if self.vector_proof is None:
            raise NotFound("there is no vector")
        return self.vector_proof


def keys_of(*histories: History) -> Sequence[VerifierKey]:
    return [*dict.fromkeys(key_of(history.key) for history in histories), COSIGNER_KEY]
