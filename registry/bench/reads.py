"""What the store itself takes for a look-up, with nothing around it."""

from __future__ import annotations

import json
import random
import secrets
import time
from pathlib import Path
from typing import Final

import click

from elicense.cli.bench.people import number_of
from elicense.license.model import DocumentType
from elicense.sql.database import Database
from registry.cli.options import CONFIG
from registry.config import load
from registry.keys import load_keys
from registry.store import RegistryStore

_SIZES: Final = (1, 64, 1_000)


@click.command()
@CONFIG
@click.option("--licenses", type=click.IntRange(min=1), required=True, help="How many the store holds.")
@click.option("--keys", "count", type=click.IntRange(min=1_000), default=8_000, show_default=True, help="Look-ups.")
def reads(config_path: Path, licenses: int, count: int) -> None:
    """Look persons up by one, by 64 and by 1,000, and print the microseconds of CPU a person as JSON."""
    config = load(config_path)
    persons = load_keys(config, random=secrets.token_bytes).persons
    database = Database(config.database.url, readers=1, writers=1)
    view = RegistryStore().view
    draw = random.Random(7)  # noqa: S311  # spreads the reads, hides nothing
    try:
        keys = [persons.person_key(DocumentType.RESIDENT_ID, number_of(draw.randrange(licenses))) for _ in range(count)]
        taken = {}
        for size in _SIZES:
            parts = [keys[start : start + size] for start in range(0, len(keys) // (1 if size > 1 else 8), size)]
            # Twice: what the first pass brings into memory, the second finds there.
            for _ in range(2):
                began = time.process_time()
                for part in parts:
                    database.read_now(lambda conn, part=part: view.of_persons(conn, part))  # type: ignore[misc]
                taken[size] = (time.process_time() - began) / sum(map(len, parts)) * 1e6
    finally:
        database.close()
    click.echo(json.dumps(taken))
