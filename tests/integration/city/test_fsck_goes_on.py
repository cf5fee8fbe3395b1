"""A check of a city that was killed goes on where it was."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Final

import pytest
from click.testing import CliRunner

from city_node.cli import main
from tests.integration.city.test_fsck import fill
from tests.support.cluster import City, Cluster

#: Runs the command and kills it as it compares licences, behind the log.
KILLED: Final = """
import os, signal, sys
from city_node.license_check import LicenseCheck
from city_node.cli import main
LicenseCheck.check = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(["fsck", "--config", sys.argv[1]])
"""


@pytest.mark.parametrize("anew", [False, True])
async def test_a_check_that_was_killed_goes_on_behind_the_log(cluster: Cluster, suzhou: City, *, anew: bool) -> None:
    await fill(cluster, suzhou)
    config = str(suzhou.folder / "config.toml")
    command = [sys.executable, "-c", KILLED, config]
    killed = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (suzhou.folder / "fsck.progress").exists()
    result = CliRunner().invoke(main, ["fsck", "--config", config, "--json", *(["--anew"] if anew else [])])
    assert result.exit_code == 0, result.output
    said = "starts anew: it was asked for" if anew else "goes on with an earlier run, behind 4 entries"
    assert result.stderr.strip() == f"fsck {said}"
    assert json.loads(result.stdout) == {"logs": 1, "entries": 4, "licenses": 3, "differences": 0, "findings": []}
    assert not (suzhou.folder / "fsck.progress").exists()
