"""RFC 6962, section 2.1, written down as it stands: recursive, slow and obvious."""

from __future__ import annotations

from functools import cache
from hashlib import sha256


class ReferenceTree:
    """The leaves D[0:n]; every function takes the slice D[start:end] that the RFC writes."""

    def __init__(self, entries: list[bytes]) -> None:
        self._entries = entries
        self.mth = cache(self._mth)

    def _mth(self, start: int, end: int) -> bytes:
        """MTH(D[start:end])."""
        n = end - start
        if n == 0:
            return sha256(b"").digest()
        if n == 1:
            return sha256(b"\x00" + self._entries[start]).digest()
        k = largest_power_of_two_below(n)
        return sha256(b"\x01" + self.mth(start, start + k) + self.mth(start + k, end)).digest()

    def path(self, m: int, start: int, end: int) -> list[bytes]:
        """PATH(m, D[start:end])."""
        n = end - start
        if n == 1:
            return []
        k = largest_power_of_two_below(n)
        if m < k:
            return [*self.path(m, start, start + k), self.mth(start + k, end)]
        return [*self.path(m - k, start + k, end), self.mth(start, start + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        """PROOF(m, D[0:n]) for 0 < m <= n."""
        return self._subproof(m, 0, n, known=True)

    def _subproof(self, m: int, start: int, end: int, *, known: bool) -> list[bytes]:
        n = end - start
        if m == n:
            return [] if known else [self.mth(start, end)]
        k = largest_power_of_two_below(n)
        if m <= k:
            return [*self._subproof(m, start, start + k, known=known), self.mth(start + k, end)]
        return [*self._subproof(m - k, start + k, end, known=False), self.mth(start, start + k)]


def largest_power_of_two_below(n: int) -> int:
    """The k of the RFC: k < n <= 2k."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k
