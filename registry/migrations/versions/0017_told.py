"""Keep what cities sign that they know, and up to where their feeds were gone through."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "told",
        sa.Column("city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("of_epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("of_idx", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("city", "epoch", "of_epoch", "of_idx"),
        info={"dist": "city"},
    )
    op.create_table(
        "feed_mark",
        sa.Column("city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("what", sa.SmallInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("city", "what", "epoch"),
        info={"dist": "city"},
        sqlite_with_rowid=False,
    )
