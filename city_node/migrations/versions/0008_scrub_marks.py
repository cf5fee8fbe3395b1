"""Mark slots that were emptied, until the database's files hold nothing of them any more."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "log_scrub",
        sa.Column("log", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", "epoch", "idx"),
        info={"dist": "log"},
        sqlite_with_rowid=False,
    )
