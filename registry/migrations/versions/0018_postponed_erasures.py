"""Keep erasures that wait until the registry holds its own log again."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "postponed_erasure",
        sa.Column("city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("license_id", sa.LargeBinary(16), nullable=False),
        sa.PrimaryKeyConstraint("city", "epoch", "idx"),
        info={"dist": "city"},
    )
    op.create_index("postponed_erasure_license", "postponed_erasure", ["license_id"])
