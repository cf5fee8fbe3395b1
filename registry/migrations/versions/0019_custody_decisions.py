"""Find the decision upon which a record without custody was written; the registry fills the table by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "custody_decision",
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("upon", sa.LargeBinary(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("license_id", "city", "upon", "epoch", "idx"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
