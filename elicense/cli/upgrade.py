"""What the `upgrade` verbs of both sides share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from elicense.cli.backup import back_up
from elicense.log.store import LogStore
from elicense.sql.in_use import require_unused
from elicense.sql.migrations import missing, take_step
from elicense.sql.schema_version import is_new, newest
from elicense.workers.node_lock import alone

BACKUP: Final = click.option(
    "--backup",
    "copy",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Copy the database into this new file first; SQLite only.",
)
YES: Final = click.option("--yes", is_flag=True, help="Do not ask whether there is a backup.")


def upgrade_stores(
    package: str,
    *,
    folder: Path,
    url: str,
    access_log_url: str,
    make_access_tables: Callable[[], None],
    complete: Callable[[Any], None],
    logs: LogStore,
    copy: Path | None,
    yes: bool,
) -> None:
    """Bring the databases of a stopped node from an older release's schema to this one's, and say what is done.

    Quota leases have a file of their own on SQLite, which every start completes.

    Args:
        package: Import name of the package that holds ``migrations``.
        folder: The node's data folder.
        url: The node's database.
        access_log_url: Its access log, whose tables have no revisions: what is missing is added.
        make_access_tables: Adds it.
        complete: Fills, in the transaction of the last step, what no migration can out of tables alone.
        logs: The tables of logs in the database.
        copy: File to back the database up into first; None for none.
        yes: Whether the person at the terminal need not be asked for a backup.

    Raises:
        NodeBusy: The node runs, or a command works on it.
        NodeLockUnusable: The lock file of its folder can not be used.
        DatabaseInUse: The same, on another machine or of a release that locks no folder.
        BackupElsewhere: A copy is asked for of a PostgreSQL database.
        StoreUnavailable: A newer release wrote the database, or it is not this node's, or can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: A database is damaged.
    """
    # Alembic names what it runs to whoever reads the log; here it is said below.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not missing(url, package):
        click.echo(f"the database has the schema of this release already, {newest(package)}; nothing to do")
        return
    is_new(access_log_url, create=False)
    with alone(folder):
        # Until now another upgrade may have been at work.
        steps = missing(url, package)
        # Each step looks again; who is told now has neither answered nor copied for nothing.
        require_unused(url)
        click.echo(f"steps to the schema of this release, {newest(package)}: {len(steps)}; none can be taken back")
        if copy is not None:
            entries = back_up(url, copy, logs)
            click.echo(f"{copy}: a whole and checked copy, with {entries:,} entries of logs")
        elif not yes:
            click.confirm("Only a backup leads back to the older release. Is there one?", abort=True)
        make_access_tables()
        for step in steps:
            take_step(url, package, step.number, and_then=complete if step is steps[-1] else None)
            click.echo(f"{step.number}  {step.about}")
    click.echo("the database has the schema of this release; check it with fsck, then start the node")
