"""Channels to a node: mutual TLS, retries of what may be retried, keepalive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import grpc

from elicense.rpc.message_size import MESSAGE_SIZE_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.trust.credentials import Credentials

DEFAULT_TIMEOUT_S: Final = 10.0
"""Deadline for a call that sets none of its own."""

SERVICE_CONFIG: Final = json.dumps(
    {
        # Several addresses behind one name share the load.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                # Every call of this API may be repeated: reads, compare-and-set, or a request id.
                # UNAVAILABLE is the only code that says "send it again as it is" (AIP-194).
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        # A server in trouble is not drowned in repeats.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)

_OPTIONS: Final = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    *MESSAGE_SIZE_OPTIONS,
    ("grpc.max_metadata_size", 16 * 1024),
    # A dead peer is noticed even while nothing is asked of it; servers permit a ping every 20 s.
    ("grpc.keepalive_time_ms", 30 * 1000),
    ("grpc.keepalive_timeout_ms", 10 * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_reconnect_backoff_ms", 5 * 1000),
    # Also the time that one attempt to connect may take: the default of 20 s
    # would hold up every call made while a server restarts.
    ("grpc.min_reconnect_backoff_ms", 2 * 1000),
)


def channel_options(server_name: str, *, retries: bool = True, local_pool: bool = False) -> list[tuple[str, Any]]:
    """Return the options of a channel.

    Args:
        server_name: DNS name that the server's certificate must carry; empty to check the address itself.
        retries: Whether UNAVAILABLE is retried within the call; a caller with its own loop says no.
        local_pool: Whether the channel opens a connection of its own instead of sharing one.
    """
    options: list[tuple[str, Any]] = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    if not retries:
        options.append(("grpc.enable_retries", 0))
    if local_pool:
        options.append(("grpc.use_local_subchannel_pool", 1))
    return options


def _tls(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(credentials.root_pem, credentials.key_pem, credentials.chain_pem)


def secure_channel(
    credentials: Credentials,
    *,
    address: str | None = None,
    server_name: str | None = None,
    retries: bool = True,
    local_pool: bool = False,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel for the running event loop; close it when done.

    A channel keeps the certificate that it was made with; after a rotation a new
    one takes its place.

    Args:
        credentials: Who calls, and where to.
        address: Address to call instead of the credentials' own.
        server_name: Name to check instead of the credentials' own.
        retries: See :func:`channel_options`.
        local_pool: See :func:`channel_options`.
        interceptors: Client interceptors.
    """
    return grpc.aio.secure_channel(
        credentials.address if address is None else address,
        _tls(credentials),
        options=channel_options(
            credentials.server_name if server_name is None else server_name, retries=retries, local_pool=local_pool
        ),
        interceptors=list(interceptors),
    )


def secure_channel_sync(
    credentials: Credentials, *, address: str | None = None, server_name: str | None = None, retries: bool = True
) -> grpc.Channel:
    """Return a channel for code without an event loop; arguments as :func:`secure_channel`."""
    return grpc.secure_channel(
        credentials.address if address is None else address,
        _tls(credentials),
        options=channel_options(credentials.server_name if server_name is None else server_name, retries=retries),
    )
