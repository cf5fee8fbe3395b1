"""Hand-overs between cities: what waits for a decision, what is offered to whom, and who the other city is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "pending_transfer",
        sa.Column("city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("entry_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("city", "epoch", "idx"),
        info={"dist": "city"},
    )
    op.create_table(
        "transfer_offer",
        sa.Column("to_city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("from_city", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("offered_us", sa.BigInteger(), nullable=False),
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("to_city", "license_id"),
        info={"dist": "to_city"},
    )
    op.create_index("transfer_offer_license", "transfer_offer", ["license_id"])
    op.add_column("disposition", sa.Column("other_city", sa.Integer(), nullable=True))
