"""What the `fsck` verbs of both sides share: their option, their progress, and how they say what they found."""

from __future__ import annotations

import json
import sys

import click

from elicense.log.check_run import Report

FSCK_FILE = "fsck.progress"
"""Name of the file in the node's folder by which a run goes on where the one before was stopped."""

ANEW = click.option("--anew", is_flag=True, help="Start from the beginning, also where an earlier run was stopped.")


class Progress:
    """Shows on a terminal how many entries have been checked."""

    def __init__(self) -> None:
        self._checked = 0

    def add(self, entries: int) -> None:
        """Count on."""
        self._checked += entries
        if sys.stderr.isatty():
            click.echo(f"\r{self._checked:,} entries checked", nl=False, err=True)

    def tell(self, what: str) -> None:
        """Say how a run goes on with an earlier one."""
        click.echo(f"fsck {what}", err=True)

    def end(self) -> None:
        """Leave the line."""
        if sys.stderr.isatty():
            click.echo(err=True)


def finish(report: Report, *, as_json: bool) -> None:
    """Print a report and exit: with 1 on any difference."""
    if as_json:
        findings = [{"where": finding.where, "what": finding.what} for finding in report.findings]
        counts = {"logs": report.logs, "entries": report.entries, "licenses": report.licenses}
        click.echo(json.dumps({**counts, "differences": report.differences, "findings": findings}))
    else:
        for finding in report.findings:
            click.echo(f"{finding.where}: {finding.what}")
        if report.differences > len(report.findings):
            click.echo(f"... and {report.differences - len(report.findings):,} more")
        counts_text = f"{report.logs} logs, {report.entries:,} entries, {report.licenses:,} licenses"
        verdict = f"{report.differences:,} differences" if report.differences else "no difference"
        click.echo(f"{counts_text}: {verdict}")
    sys.exit(1 if report.differences else 0)
