"""Hand-overs between cities, and who the other city of a word of the registry is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "hand_over",
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("direction", sa.SmallInteger(), nullable=False),
        sa.Column("city", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("other_city", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("license_id", "direction", "city", "epoch", "idx"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
    op.create_index("hand_over_state", "hand_over", ["state", "updated_us"])
    op.add_column("disposition", sa.Column("other_city", sa.Integer(), nullable=True))
