"""Calls that a process which only verifies passes on to the one that writes: same caller, same answer, same refusal."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from elicense.errors import CallerNotAllowed, Malformed, PeerUnreachable, SequenceGap, Unauthenticated, Violation
from elicense.rpc.authentication import PASSED_ON_KEY
from elicense.rpc.forwarding import Forwarder
from elicense.rpc.server import ListenOptions
from tests.integration.rpc.test_calls import BAD, GOOD, Servicer, ask, serving, stub_of
from tests.support.authority import Issued, TestAuthority
from tests.support.node import TestNode


@dataclass
class Two:
    """A process that listens and one behind it that writes."""

    front: TestNode
    back: TestNode
    answering: Servicer
    never: Servicer

    def admit(self, path: str) -> Issued:
        """Credentials that are in force at both, as in one table."""
        issued = self.front.admit(path)
        self.back.rows[issued.row.fingerprint] = issued.row
        return issued


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short path: the name of a Unix socket has little room.
    with tempfile.TemporaryDirectory(prefix="el-") as folder:
        yield Path(folder)


@pytest.fixture
async def two(pki: TestAuthority, tmp_path: Path, folder: Path) -> AsyncIterator[Two]:
    async with running(pki, tmp_path, folder) as both:
        yield both


@asynccontextmanager
async def running(pki: TestAuthority, tmp_path: Path, folder: Path, *, writer: bool = True) -> AsyncIterator[Two]:
    socket = folder / "writer.sock"
    forwarder = Forwarder(socket, kept=("/grpc.",), patience_s=5.0 if writer else 0.1)
    front = TestNode(pki, tmp_path / "front", forwarder=forwarder)
    back = TestNode(pki, tmp_path / "back", options=ListenOptions("", socket=socket))
    both = Two(front, back, Servicer(), Servicer())
    async with AsyncExitStack() as stack:
        if writer:
            await stack.enter_async_context(back.running(serving(both.answering)))
        await stack.enter_async_context(front.running(serving(both.never)))
        try:
            yield both
        finally:
            await forwarder.close()


async def test_the_writer_sees_the_caller_and_not_the_process_between(two: Two) -> None:
    async with two.front.channel(two.admit("/verifier/police/highway")) as channel:
        assert (await ask(channel)).endswith("/verifier/police/highway")
    assert (two.answering.calls, two.never.calls) == (1, 0)


async def test_a_refusal_of_the_writer_reaches_the_caller_as_it_is(two: Two) -> None:
    async def refuse() -> None:
        raise SequenceGap("send from there on", expectedIndex=7)

    two.answering.behave = refuse
    async with two.front.channel(two.admit("/verifier/police/highway")) as channel:
        with pytest.raises(SequenceGap, match="send from there on") as caught:
            await ask(channel)
    assert caught.value.metadata["expectedIndex"] == "7"


async def test_a_malformed_request_is_refused_by_the_writer_field_by_field(two: Two) -> None:
    async with two.front.channel(two.admit("/verifier/police/highway")) as channel:
        with pytest.raises(Malformed) as caught:
            await ask(channel, BAD)
    assert all(isinstance(violation, Violation) for violation in caught.value.violations)
    assert caught.value.violations


async def test_who_may_not_call_is_refused_before_anything_is_passed_on(two: Two) -> None:
    async with two.front.channel(two.admit("/operator/wang")) as channel:
        with pytest.raises(CallerNotAllowed):
            await ask(channel)
    assert two.answering.calls == 0


async def test_the_writer_looks_the_certificate_up_for_itself(two: Two) -> None:
    caller = two.admit("/verifier/police/highway")
    del two.back.rows[caller.row.fingerprint]
    async with two.front.channel(caller) as channel:
        with pytest.raises(Unauthenticated):
            await ask(channel)
    assert two.answering.calls == 0


async def test_nobody_on_the_network_can_name_another_as_the_caller(pki: TestAuthority, tmp_path: Path) -> None:
    node, servicer = TestNode(pki, tmp_path / "node"), Servicer()
    async with node.running(serving(servicer)):
        other = node.admit("/verifier/police/other")
        claimed = other.credentials.chain_pem
        async with node.channel("/verifier/police/highway") as channel:
            assert (await ask(channel, metadata=((PASSED_ON_KEY, claimed),))).endswith("/highway")


async def test_a_call_on_the_socket_without_a_certificate_is_refused(two: Two, folder: Path) -> None:
    local = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    async with grpc.aio.secure_channel(f"unix:{folder / 'writer.sock'}", local) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub_of(channel).VerifyLicense(GOOD, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_while_there_is_no_writer_the_caller_is_told_to_come_again(
    pki: TestAuthority, tmp_path: Path, folder: Path
) -> None:
    async with (
        running(pki, tmp_path, folder, writer=False) as both,
        both.front.channel(both.admit("/verifier/police/highway")) as channel,
    ):
        with pytest.raises(PeerUnreachable):
            await ask(channel)
