"""Following one licence over connections that come and go.

Servers end connections now and then, by age or to be replaced.  A watch is then
opened anew, and what it says first is passed on only if it is news.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from typing import Any

import grpc

from elicense.client.patience import PAUSE_S, Patience
from elicense.client.verdict import Verdict, read_verdict
from elicense.errors import Error, ShuttingDown
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import verification_pb2 as pb


class _Watched(Patience):
    """What was shown of a licence already."""

    def __init__(self, patience_s: float) -> None:
        super().__init__(patience_s)
        self._shown: Verdict | None = None

    def news(self, message: pb.WatchLicenseResponse) -> Verdict | None:
        """Return what a server said, or None when it was said before."""
        self.heard()
        verdict = read_verdict(message.verdict)
        face = replace(verdict, given_at=verdict.given_at.min, freshness=None)
        if face == self._shown:
            return None
        self._shown = face
        return verdict


def watch_sync(service: Any, request: pb.WatchLicenseRequest, patience_s: float) -> Generator[Verdict, None, None]:
    """Yield verdicts; see :meth:`elicense.client.Client.watch`."""
    patience = _Watched(patience_s)
    while True:
        call = service.WatchLicense(request)
        try:
            for message in call:
                if (verdict := patience.news(message)) is not None:
                    yield verdict
            patience.check(_ended())
        except grpc.RpcError as error:
            patience.check(from_rpc_error(error))
        finally:
            call.cancel()
        time.sleep(PAUSE_S)


async def watch_async(
    service: Any, request: pb.WatchLicenseRequest, patience_s: float
) -> AsyncGenerator[Verdict, None]:
    """Yield verdicts; see :meth:`elicense.client.AsyncClient.watch`."""
    patience = _Watched(patience_s)
    while True:
        call = service.WatchLicense(request)
        try:
            async for message in call:
                if (verdict := patience.news(message)) is not None:
                    yield verdict
            patience.check(_ended())
        except grpc.RpcError as error:
            patience.check(from_rpc_error(error))
        finally:
            # An abandoned call would be neither collected nor cancelled.
            call.cancel()
        await asyncio.sleep(PAUSE_S)


def _ended() -> Error:
    return ShuttingDown("the server ended the watch")
