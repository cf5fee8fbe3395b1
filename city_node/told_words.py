"""What the registry asks this city to sign that it knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from city_node.receipts import Receipts
from elicense.verification.told import Told


class ToldWords:
    """Signs that the city knows of licences that went away, for as long as the registry asks.

    Args:
        receipts: What the registry has said.
        sign: Signs what the city says that it knows.
    """

    def __init__(self, receipts: Receipts, sign: Callable[[Told], bytes]) -> None:
        self._receipts = receipts
        self._sign = sign
        # By number in the feed.
        self._told: dict[int, Told] = {}

    def signed(self) -> list[bytes]:
        """Return what is to be said with the next call."""
        return [self._sign(told) for told in self._told.values()]

    async def learn(self, unsigned: Sequence[int]) -> bool:
        """Note what the registry asks to be signed; what it asks again is signed as before.

        Returns:
            Whether there is something new to say.
        """
        asked = [number for number in unsigned if number not in self._told]
        new = await self._receipts.told(asked) if asked else {}
        self._told = {number: told for number, told in (self._told | new).items() if number in unsigned}
        return bool(new)
