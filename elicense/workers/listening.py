"""How a process listens, and what it passes on, by its place."""

from __future__ import annotations

from typing import Final

from elicense.rpc.forwarding import Forwarder
from elicense.rpc.server import ListenOptions
from elicense.workers.place import Place

KEPT: Final = ("/elicense.v1.VerificationService/", "/grpc.")
"""What a process that only verifies answers itself: verifications, health and reflection."""


def listen_options(place: Place, address: str) -> ListenOptions:
    """Return how a process listens; ``address`` is the configured one."""
    return ListenOptions(
        (place.listen or address) if place.listens else "",
        socket=place.socket if place.writes else None,
        reuse_port=place.shares,
        reflection=True,
    )


def forwarder_of(place: Place) -> Forwarder | None:
    """Return what passes calls on to the process that writes; None for one that writes itself."""
    return None if place.writes or place.socket is None else Forwarder(place.socket, kept=KEPT)
