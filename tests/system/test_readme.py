"""Every command in a block of the README is run here, or stands in the table of those that are run elsewhere."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from elicense.cli.demo.drivers import generate
from elicense.clock import CHINA
from elicense.license.csv_format import COLUMNS
from tests.support.ports import HeldPorts

#: Longer than it takes on a machine that is slow and busy with other tests.
DEADLINE_S = 600

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

ELSEWHERE = {
    "make demo": "tests/system/test_demo.py runs the command behind it",
    "make test": "is what runs this test",
    "make faults": "tests/faults runs its short form",
    "make simulate SEEDS=10000": "tests/simulation runs the first seeds",
    "make fuzz": "tests/unit/fuzz and each test_wire_fuzz.py run a short form",
    "elicense load deploy/load/verify.toml --seconds 10": "tests/system/test_load.py runs it for a second",
    "elicense-registry serve --config registry/config.toml --workers 4 &": "tests/system/test_workers.py runs workers",
    "docker compose -f deploy/container/compose.yaml up --build": "needs Docker; tests/unit/deploy checks the files",
}
"""Commands that are not run here, and why."""

COMMANDS = {
    "elicense": "elicense.cli.main",
    "elicense-registry": "registry.cli",
    "elicense-city": "city_node.cli",
}

PREPARED = """
tries=0
NUMBER="$(sed -n 2p drivers.csv | cut -d, -f2)"
NAME="$(sed -n 2p drivers.csv | cut -d, -f3)"
elicense verify "$NUMBER" --credentials police --purpose roadside-check --case R-17 --sign answer
TOKEN="$(elicense-registry token city 510100 --config registry/config.toml)"
elicense-city join "$TOKEN" --data chengdu --listen 127.0.0.1:7700
elicense-city serve --config chengdu/config.toml &
elicense join "$(elicense-city token clerk li --config chengdu/config.toml)" --into chengdu-clerk
elicense join "$(elicense-registry token verifier holder app --config registry/config.toml)" --into holder-app
may_move() { elicense-city transfer offer "$1" --to 510100 --basis "Article 64" --credentials clerk --check-only; }
for LICENSE in $(elicense-city list --credentials clerk | cut -d' ' -f1); do may_move "$LICENSE" && break; done
"""
"""What the lines of text blocks need besides what the walk-through leaves: a signed answer, another city, an app."""

FILLED_IN = {
    "FILE": "answer",
    "--number 320500199003070134": '--number "$NUMBER"',
    "--config ...": "--config registry/config.toml",
    "LICENSE": '"$LICENSE"',
    # It comes to Chengdu once the registry holds the offer.
    "elicense-city transfer accept cities/320500/licenses/...": 'until elicense-city transfer accept "$LICENSE"',
    "--credentials clerk   # in Chengdu": "--credentials chengdu-clerk; do [ $((tries++)) -lt 300 ]; sleep 0.2; done",
    "accesses NUMBER --name NAME": 'accesses "$NUMBER" --name "$NAME"',
    "[--limit N] [--json]": "--limit 5 --json",
}
"""What stands for the placeholders of text blocks."""


def lines_of(kind: str) -> list[str]:
    """Every line of every block of a kind, also of those that belong to an item of a list."""
    blocks = re.findall(rf"^ *```{kind}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def shell_lines() -> list[str]:
    """Every line of every shell block."""
    return lines_of("sh")


def text_lines() -> list[str]:
    """Every command of a text block, its placeholders filled in."""
    lines = [line for line in lines_of("text") if line.split()[0] in COMMANDS]
    for placeholder, value in FILLED_IN.items():
        assert any(placeholder in line for line in lines), placeholder
        lines = [line.replace(placeholder, value) for line in lines]
    return lines


def test_every_command_that_is_not_run_here_is_accounted_for() -> None:
    assert set(ELSEWHERE) <= set(shell_lines())


def test_the_walk_through_by_hand_works_as_it_is_written(tmp_path: Path) -> None:
    lines = [line for line in shell_lines() if line not in ELSEWHERE]
    assert {shlex.split(line)[0] for line in lines} == set(COMMANDS)
    lines += [*PREPARED.strip().splitlines(), *text_lines()]
    write_commands(tmp_path / "bin")
    write_drivers(tmp_path / "drivers.csv")
    with HeldPorts() as held:
        run_by_hand(tmp_path, with_ports_of_its_own(lines, held))


def run_by_hand(folder: Path, lines: list[str]) -> None:
    script = "set -eu\ntrap 'kill $(jobs -p); wait' EXIT\n" + "\n".join(lines)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise

    assert process.returncode == 0, output
    assert "VALID: " in output
    assert output.count("no difference") >= 1
    assert "question: it answers the number and name given" in output
    # The nodes here are honest; tests/integration/registry/test_past.py has one that is not.
    assert "proof: genuine; it does not contradict the evidence" in output
    assert '"purpose": "ROADSIDE_CHECK"' in output


def write_commands(folder: Path) -> None:
    """The three console commands, for a source tree that is not installed."""
    folder.mkdir()
    for name, module in COMMANDS.items():
        script = folder / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)


def write_drivers(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row, _ in generate(320500, 30, seed=1, on=datetime.now(CHINA).date()))


def with_ports_of_its_own(lines: list[str], held: HeldPorts) -> list[str]:
    """Take ports of its own, and wait for what listens: a reader of the README types more slowly."""
    text = "\n".join(lines)
    ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text)))
    for written in ports:
        text = text.replace(f"127.0.0.1:{written}", held.address())
    prepared, listening = [], ""
    for line in text.splitlines():
        prepared.append(line)
        if found := re.search(r"--listen 127\.0\.0\.1:(\d+)", line):
            listening = found[1]
        if line.endswith("&"):
            prepared.append(
                f"for _ in $(seq 1200); do (: </dev/tcp/127.0.0.1/{listening}) 2>/dev/null && break; sleep 0.1; done"
            )
    return prepared
