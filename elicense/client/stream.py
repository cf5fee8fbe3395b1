"""Asking about millions over one stream: chunks go out as answers are taken, and few are under way at a time.

Servers end connections now and then, by age or to be replaced.  A stream is then
opened anew, and the chunks that were not answered are sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from queue import SimpleQueue
from typing import Any, Final

import grpc

from elicense.client.patience import PAUSE_S, Patience
from elicense.client.verdict import Verdict, read_verdict
from elicense.errors import Error, ShuttingDown
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import verification_pb2 as pb

AHEAD: Final = 2
"""Chunks under way: one is answered while the next is on its way."""

_Chunk = pb.StreamVerifyLicensesRequest


class _Unanswered:
    """The chunks under way, and those to come.

    Args:
        chunks: All of them, taken as there is room.
    """

    def __init__(self, chunks: Iterator[_Chunk]) -> None:
        self._chunks = chunks
        self._sent: deque[_Chunk] = deque()

    def __bool__(self) -> bool:
        return bool(self._sent)

    def again(self) -> list[_Chunk]:
        """Return what a new stream begins with: what was not answered, filled up."""
        more = self._more()
        while more is not None:
            more = self._more()
        return list(self._sent)

    def answered(self) -> _Chunk | None:
        """Note an answer and return the chunk to send next, if there is one."""
        self._sent.popleft()
        return self._more()

    def _more(self) -> _Chunk | None:
        if len(self._sent) >= AHEAD:
            return None
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._sent.append(chunk)
        return chunk


def stream_sync(service: Any, chunks: Iterator[_Chunk], patience_s: float) -> Generator[Verdict, None, None]:
    """Yield verdicts; see :meth:`elicense.client.Client.verify_many`."""
    patience, unanswered = Patience(patience_s), _Unanswered(chunks)
    while begin := unanswered.again():
        sending: SimpleQueue[_Chunk | None] = SimpleQueue()
        for chunk in begin:
            sending.put(chunk)
        call = service.StreamVerifyLicenses(iter(sending.get, None))
        try:
            for answer in call:
                patience.heard()
                following = unanswered.answered()
                if following is not None or not unanswered:
                    sending.put(following)
                yield from map(read_verdict, answer.verdicts)
            if unanswered:
                patience.check(_ended())
        except grpc.RpcError as error:
            patience.check(_why(error))
        finally:
            # Lets go of the thread that sends.
            sending.put(None)
            call.cancel()
        if unanswered:
            time.sleep(PAUSE_S)


async def stream_async(service: Any, chunks: Iterator[_Chunk], patience_s: float) -> AsyncGenerator[Verdict, None]:
    """Yield verdicts; see :meth:`elicense.client.AsyncClient.verify_many`."""
    patience, unanswered = Patience(patience_s), _Unanswered(chunks)
    while begin := unanswered.again():
        sending: asyncio.Queue[_Chunk | None] = asyncio.Queue()
        for chunk in begin:
            sending.put_nowait(chunk)
        call = service.StreamVerifyLicenses(_taken(sending))
        try:
            async for answer in call:
                patience.heard()
                following = unanswered.answered()
                if following is not None or not unanswered:
                    sending.put_nowait(following)
                for verdict in answer.verdicts:
                    yield read_verdict(verdict)
            if unanswered:
                patience.check(_ended())
        except grpc.RpcError as error:
            patience.check(_why(error))
        finally:
            # An abandoned call would be neither collected nor cancelled.
            call.cancel()
        if unanswered:
            await asyncio.sleep(PAUSE_S)


async def _taken(sending: asyncio.Queue[_Chunk | None]) -> AsyncIterator[_Chunk]:
    while (chunk := await sending.get()) is not None:
        yield chunk


def _why(error: grpc.RpcError) -> Error:
    """Return why a stream ended.

    A node says why in the trailing metadata.  A failure without any is the library's
    own: it wrote to a stream that the node had ended, whose answers and end were not
    read yet; the node says it again when the stream is opened anew.
    """
    raised = from_rpc_error(error)
    is_internal = error.code() is grpc.StatusCode.INTERNAL and not error.trailing_metadata()
    return _ended() if is_internal else raised


def _ended() -> ShuttingDown:
    return ShuttingDown("the server ended the stream")
