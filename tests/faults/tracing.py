"""strace, attached to a process that runs."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.faults.fault import NotPossibleHere


@asynccontextmanager
async def traced(pid: int, *options: str) -> AsyncIterator[None]:
    """Have strace attached to a process, with these options, until the end of the block.

    Raises:
        NotPossibleHere: strace is missing, or may not attach.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise NotPossibleHere("strace is not installed")
    tracer = await asyncio.create_subprocess_exec(strace, *options, "-p", str(pid), stderr=asyncio.subprocess.PIPE)
    assert tracer.stderr is not None
    try:
        line = await tracer.stderr.readline()
        if b"attached" not in line:
            raise NotPossibleHere(f"strace can not attach: {line.decode().strip()}")
        yield
    finally:
        with suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        await tracer.communicate()
