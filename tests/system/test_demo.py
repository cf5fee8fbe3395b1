"""`elicense demo` as a user runs it: a real process that starts real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = (sys.executable, "-m", "elicense.cli.main", "demo", "--drivers", "60")
#: Longer than it takes on a machine that is slow and busy with other tests.
TIMEOUT_S = 600


def children_of(folder: Path) -> list[int]:
    """Processes that were started with something below ``folder`` on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Demos that a test starts; killed with everything below them if the test leaves them."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def test_the_whole_main_job_comes_out_as_promised(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [*DEMO, "--json", "--dir", str(folder)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["imported"] + figures["rejected_rows"] == 180
    assert figures["verified_nationwide"] == figures["imported"]
    assert figures["issue_visible_p50_ms"] <= figures["issue_visible_p99_ms"] < 1_000
    assert figures["suspend_registry_ms"] < 1_000
    assert figures["refused_forged_record"] == "SIGNATURE_INVALID"
    assert figures["refused_other_city"] == "CHECKPOINT_INVALID"
    assert figures["refused_wrong_role"] == "CALLER_NOT_ALLOWED"
    assert figures["refused_after_transfer"] == "LICENSE_MOVED"
    assert figures["transfer_ms"] < 5_000
    assert figures["provisional_issued"] > 0
    assert figures["catch_up_s"] > 0
    assert figures["conflict_s"] > 0
    assert figures["accident_then"] == "VALID"
    assert children_of(folder) == []


def test_ctrl_c_in_the_middle_leaves_nothing_behind(tmp_path: Path, running: list[subprocess.Popen[str]]) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    running.append(process)
    deadline = time.monotonic() + TIMEOUT_S
    # Until a city node is up: the middle of the first scenes.
    while not any(b"serve" in _command_line(pid) for pid in children_of(tmp_path)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 130, errors
    assert "nothing was left running" in errors
    assert children_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
