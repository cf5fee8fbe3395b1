"""How a city node reaches the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials

if TYPE_CHECKING:
    import grpc


class RegistryChannels:
    """One channel for what the node sends and one for what it asks.

    They are two so that a large batch never stands before a person at a counter.

    Args:
        credentials: The node's TLS credentials.
        address: The registry's address, host:port.

    Attributes:
        upstream: For the log, and for who looked.
        questions: For everything that somebody waits for.
    """

    def __init__(self, *, credentials: Credentials, address: str) -> None:
        self._credentials = credentials
        self._address = address
        self.upstream = secure_channel(credentials, address=address, retries=False)
        self.questions = self.another()

    def another(self) -> grpc.aio.Channel:
        """Return a new channel with connections of its own; the caller closes it."""
        return secure_channel(self._credentials, address=self._address, retries=False, local_pool=True)
