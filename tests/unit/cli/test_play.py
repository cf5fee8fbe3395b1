"""How a run of the demo ends, whatever happens in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elicense import errors
from elicense.cli.demo import scenes
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.stage import Stage
from elicense.cli.main import main

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def run_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException, *arguments: str) -> Result:
    """Run the demo with a first scene that starts a process and then fails."""

    async def failing(stage: Stage) -> None:
        await stage.nation.household.start(SLEEPER, log=stage.nation.folder / "node.log")
        raise failure

    monkeypatch.setattr(scenes, "enroll", failing)
    return CliRunner().invoke(main, ["demo", *arguments])


def test_a_broken_promise_is_one_line_and_keeps_the_logs(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_with(monkeypatch, ExpectationFailed("a forged record was let in"))
    (folder,) = temporary.iterdir()
    assert done.exit_code == 1
    assert done.stderr == (f"error: a forged record was let in; the nodes' logs are in {folder} [EXPECTATION_FAILED]\n")
    assert (folder / "node.log").exists()


def test_an_error_on_the_way_says_its_reason(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_with(monkeypatch, errors.StoreFull("the disk is full"))
    assert done.exit_code == 1
    assert done.stderr.startswith("error: the disk is full [STORE_FULL]; the nodes' logs are in ")


def test_an_interrupted_run_leaves_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_with(monkeypatch, KeyboardInterrupt())
    assert done.exit_code == 130
    assert done.stderr == "stopped; nothing was left running\n"
    assert list(temporary.iterdir()) == []


def test_a_folder_that_was_named_is_kept(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = temporary / "mine"
    done = run_with(monkeypatch, KeyboardInterrupt(), "--dir", str(folder))
    assert done.exit_code == 130
    assert (folder / "node.log").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
