"""A process that has imported everything and forks nodes on demand, so that a thousand kills cost no thousand imports.

It reads one JSON object a line and answers with one: ``{"id", "pid"}`` once a
child runs, ``{"pid", "status"}`` once it has ended.  It never touches gRPC
itself, so what it forks starts from a clean slate.  Its children die with it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import mmap
import os
import selectors
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import city_node.app
import city_node.cli
import registry.app
import registry.cli  # imported once, for every child
from city_node.config import CityConfig
from elicense.clock import utc_micros
from elicense.rpc.server import run, stop_on_signals
from elicense.rpc.telemetry import LineWriter, configure_logging
from elicense.sql import engines
from registry.config import RegistryConfig

_PR_SET_PDEATHSIG: Final = 1
_OFFSET: Final = struct.Struct("<q")


def clock_of(path: str) -> Callable[[], int]:
    """Return the real clock moved by the microseconds that the file holds at the moment."""
    with Path(path).open("rb") as file:
        held = mmap.mmap(file.fileno(), _OFFSET.size, prot=mmap.PROT_READ)
    return lambda: utc_micros() + int(_OFFSET.unpack(held)[0])


async def _serve(side: str, config: str, clock: Callable[[], int], log: LineWriter) -> int:
    stop = stop_on_signals()
    node = await (
        city_node.app.build(CityConfig.model_validate_json(config), clock=clock, log=log)
        if side == "city"
        else registry.app.build(RegistryConfig.model_validate_json(config), clock=clock, log=log)
    )
    try:
        await node.start()
        await stop.wait()
    finally:
        await node.stop()
    return 0


def serve(order: dict[str, Any]) -> int:
    # Behind the product's own, so that they win; this process has nobody else's connections.
    engines._SQLITE_PRAGMAS += tuple(order["pragmas"])  # type: ignore[misc]
    log = LineWriter(sys.stdout)
    configure_logging(log)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return run(lambda: _serve(order["serve"], order["config"], clock_of(order["clock"]), log))
    finally:
        log.close()


def command(order: dict[str, Any]) -> int:
    """Run a console command to its end."""
    try:
        importlib.import_module(order["main"]).main(order["arguments"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0


def child(order: dict[str, Any]) -> None:
    """Be the node or command of the order; never returns."""
    status = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        status = serve(order) if "serve" in order else command(order)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(status)


def say(**answer: int) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say(pid=pid, status=os.waitstatus_to_exitcode(status))


def main() -> None:
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # Ctrl-C is for the campaign, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
    waiting.register(wake, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in waiting.select():
            got = os.read(key.fd, 1 << 16)
            if key.fd == wake:
                reap()
                continue
            if not got:
                return
            *lines, pending = (pending + got).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    child(order)
                say(id=order["id"], pid=pid)


if __name__ == "__main__":
    main()
