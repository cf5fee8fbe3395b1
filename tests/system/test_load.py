"""``elicense load`` as it is used: it brings up nodes, puts load on them, reports, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Longer than it takes on a machine that is slow and busy with other tests.
DEADLINE_S = 600
LOAD = Path(__file__).resolve().parents[2] / "deploy" / "load"


def test_a_load_test_brings_up_nodes_of_its_own_and_takes_them_down(tmp_path: Path) -> None:
    words = ["load", str(LOAD / "replicate.toml"), "--seconds", "1", "--json", "--dir", str(tmp_path / "nodes")]
    done = subprocess.run(
        [sys.executable, "-m", "elicense.cli.main", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    report = json.loads(done.stdout)
    assert (report["units"]["what"], report["errors"]) == ("entries", {})
    assert report["units"]["count"] > 0
    # The rate is the machine's affair.
    assert done.returncode == (0 if report["held"] else 1), done.stderr
    assert "registry_stopped" in (tmp_path / "nodes" / "registry.log").read_text()
