"""Every signature that a node makes: over one size of one log each key signs one head, and all keys the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from elicense.errors import Error
from elicense.log.checkpoint import parse_checkpoint
from elicense.trust.signer import Signer
from tests.simulation.written import Violated

_COSIGNED: Final = b"cosignature/v1\n"


class _Witnessed:
    """A signer that tells what it is about to sign."""

    def __init__(self, signer: Signer, seen: Callable[[str, bytes], None]) -> None:
        self._signer = signer
        self._seen = seen

    @property
    def algorithm(self) -> str:
        return self._signer.algorithm

    def public_key(self) -> bytes:
        return self._signer.public_key()

    def sign(self, message: bytes) -> bytes:
        body = message.split(b"\n", 2)[2] if message.startswith(_COSIGNED) else message
        self._seen(body.decode(), self.public_key())
        return self._signer.sign(message)


class Signatures:
    """Watches signers.

    Args:
        cosigner: Public key of the registry's receipts.

    Attributes:
        seen: How many heads were signed.
    """

    def __init__(self, cosigner: bytes) -> None:
        self._cosigner = cosigner
        self.seen = 0
        #: By origin and size: which root each key signed.
        self._signed: dict[tuple[str, int], dict[bytes, bytes]] = defaultdict(dict)
        #: Logs that have two histories; with whether the city's own node signs both.
        self._forked: dict[str, bool] = {}

    def witness(self, signer: Signer) -> Signer:
        """Return the signer, watched."""
        return _Witnessed(signer, self._saw)

    def fork(self, origin: str, *, by_itself: bool = False) -> None:
        """Note that a log has two histories: the registry may have another one than the city."""
        self._forked[origin] = by_itself or self._forked.get(origin, False)

    def put_aside(self, origin: str) -> None:
        """Forget what was signed of a log whose key was put aside."""
        for signed in [each for each in self._signed if each[0] == origin]:
            del self._signed[signed]

    def _saw(self, body: str, signer: bytes) -> None:
        try:
            head = parse_checkpoint(body)
        except Error:
            return  # not a head
        self.seen += 1
        roots = self._signed[head.origin, head.size]
        against = set(roots.values())
        if head.origin in self._forked:
            # The others sign one all the same: the registry, and a city that has a twin.
            both = self._forked[head.origin] and signer != self._cosigner
            against = set() if both or signer not in roots else {roots[signer]}
        roots.setdefault(signer, head.root)
        if against - {head.root}:
            raise Violated(f"two heads were signed for {head.origin} at {head.size}")
