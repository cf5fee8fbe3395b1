"""Add the quotas of verifiers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of leased quotas."""
    op.create_table(
        "quota",
        sa.Column("scope", sa.LargeBinary(length=16), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "day"),
        info={"dist": "scope"},
        sqlite_with_rowid=False,
    )
