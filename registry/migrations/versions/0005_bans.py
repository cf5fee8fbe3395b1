"""Keep bars from applying anew by person, so that they are found wherever they were recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "person_ban",
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("city", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("ground", sa.String(length=40), nullable=False),
        sa.Column("until_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("person_key", "license_id"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )
