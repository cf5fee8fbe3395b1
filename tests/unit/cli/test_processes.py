"""Children of the demo: started, stopped, never left behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.processes import Household, last_line, wait_listening

END_S = 60
SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);print('ready', flush=True); time.sleep(600)"
)


#: Starts a child, prints its id and waits; what ends it is raised once the child is gone.
WAITING = f"""
import asyncio, signal, sys
from pathlib import Path
from elicense.cli.demo.processes import Household, run_as_household

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
household = Household()

async def main():
    child = await household.start([sys.executable, "-c", {SLEEPER!r}], log=Path(sys.argv[1]))
    print(child.pid, flush=True)
    await asyncio.Event().wait()

try:
    run_as_household(main())
except KeyboardInterrupt:
    sys.exit(130)
finally:
    household.kill_all()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_ready(log: Path) -> None:
    while "ready" not in log.read_text():
        os.sched_yield()


async def test_a_command_gives_its_output(tmp_path: Path) -> None:
    household = Household()
    output = await household.run([sys.executable, "-c", "print('token')"], name="say", log=tmp_path / "log")
    assert output == "token\n"


async def test_a_command_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    household = Household()
    code = "import sys; print('first', file=sys.stderr); print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ExpectationFailed, match=r"Suzhou join: exit status 3: the reason"):
        await household.run([sys.executable, "-c", code], name="Suzhou join", log=tmp_path / "log")


async def test_a_command_is_given_the_time_that_it_is_said_to_need(tmp_path: Path) -> None:
    household = Household()
    with pytest.raises(ExpectationFailed, match=r"sleep: did not end within 0 s"):
        await household.run([sys.executable, "-c", SLEEPER], name="sleep", log=tmp_path / "log", timeout_s=0.2)


async def test_a_child_leads_its_own_group_and_ends_on_request(tmp_path: Path) -> None:
    household = Household()
    child = await household.start([sys.executable, "-c", SLEEPER], log=tmp_path / "log")
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)

    await household.stop_all()

    assert not child.running
    assert not alive(child.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_whatever_asks_it_to_end_leaves_no_child_behind(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path / "log")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        watched = os.pidfd_open(child)
        process.send_signal(number)
        assert process.wait(timeout=END_S) == 130
    try:
        # Its end, not its number: that one stays taken until whoever inherits the child has taken note.
        assert select.select([watched], [], [], END_S)[0]
    finally:
        os.close(watched)


async def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elicense.cli.demo.processes.GRACE_S", 0.05)
    household = Household()
    child = await household.start([sys.executable, "-c", STUBBORN], log=tmp_path / "log")
    until_ready(tmp_path / "log")

    assert await child.stop() == -9
    assert not alive(child.pid)


async def test_everything_can_be_killed_at_once(tmp_path: Path) -> None:
    household = Household()
    children = [await household.start([sys.executable, "-c", STUBBORN], log=tmp_path / "log") for _ in range(2)]
    household.kill_all()
    assert [await child.stop() for child in children] == [-9, -9]
    household.kill_all()


async def test_a_node_that_ends_at_its_start_is_noticed(tmp_path: Path) -> None:
    household = Household()
    port = household.port()
    child = await household.start([sys.executable, "-c", "raise SystemExit('no keys')"], log=tmp_path / "log")
    with pytest.raises(ExpectationFailed, match="Suzhou ended at its start: no keys"):
        await wait_listening(child, port, "Suzhou")
    household.kill_all()


async def test_a_port_is_nobody_elses_while_its_child_is_down() -> None:
    household = Household()
    ports = [household.port() for _ in range(8)]
    assert len(set(ports)) == 8
    for _ in range(2):
        # As a node listens, ends, and listens again.
        with socket.create_server(("127.0.0.1", ports[0])):
            pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ports[0])
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", ports[0]))
    household.kill_all()
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[0]))


def test_the_last_line_of_a_log_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none") == ""
