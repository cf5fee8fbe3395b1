"""From when on decisions changed what a licence counts for, so that the past can be asked about."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "license_ruling",
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.SmallInteger(), nullable=False),
        sa.Column("after", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("license_id", "decided_us"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
