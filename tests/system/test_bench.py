"""``elicense bench`` as a user runs it, small: real processes, real figures."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bench_measures_verifications_beside_a_bare_call() -> None:
    small = ["--licenses", "1000", "--calls", "200", "--rounds", "1", "--batch", "100", "--json"]
    command = [sys.executable, "-c", "from elicense.cli.main import main; main()", "bench", "verify", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = {each["name"]: each for each in report["figures"]}
    assert set(figures) == {"bare echo", "VerifyLicense", "VerifyLicense, access log off", "batch of 100"}
    # A ratio that was not measured, or a bare call that costs as much as a verification, would be wrong.
    assert 0 < figures["VerifyLicense"]["reference_ratio"] < 1
    assert report["setting"]["licenses"] == 1_000
