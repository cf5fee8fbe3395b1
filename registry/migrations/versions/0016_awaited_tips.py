"""Keep up to when a city is complete and what completes more: no record vouches for it by its own time."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEPT = ("city", "epoch", "next_index", "tip_size", "city_clock_us", "received_us")


def upgrade() -> None:
    """Change the schema."""
    state = sa.table("city_state", *map(sa.column, _KEPT))
    kept = [row._asdict() for row in op.get_bind().execute(sa.select(state))]
    op.drop_table("city_state")
    made = op.create_table(
        "city_state",
        sa.Column("city", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("tip_size", sa.BigInteger(), nullable=False),
        sa.Column("city_clock_us", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("as_of_us", sa.BigInteger(), nullable=False),
        sa.Column("awaited_size", sa.BigInteger(), nullable=False),
        sa.Column("awaited_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("city"),
        info={"dist": "city"},
    )
    for row in kept:
        said_us = min(row["city_clock_us"], row["received_us"])
        # Of a city that was behind nothing is known until its tip is held: seconds, where it is connected.
        row["as_of_us"] = said_us if row["next_index"] >= row["tip_size"] else 0
        row["awaited_size"], row["awaited_us"] = row["tip_size"], said_us
    if kept:
        op.bulk_insert(made, kept)
