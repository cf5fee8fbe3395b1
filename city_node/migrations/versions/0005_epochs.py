"""Which key signs which epoch of the city's log."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of epochs."""
    op.create_table(
        "log_epoch",
        sa.Column("log", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_key", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("log", "epoch"),
        info={"dist": "log"},
        sqlite_with_rowid=False,
    )
