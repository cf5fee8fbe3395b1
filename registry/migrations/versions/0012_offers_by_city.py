"""Let two cities offer licences of one id to a third: ids are each city's own choice."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    columns = ("to_city", "license_id", "from_city", "epoch", "idx", "offered_us", "person_key")
    before = sa.table("transfer_offer", *map(sa.column, columns))
    kept = [row._asdict() for row in op.get_bind().execute(sa.select(before))]
    op.drop_table("transfer_offer")
    made = op.create_table(
        "transfer_offer",
        sa.Column("to_city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("from_city", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("offered_us", sa.BigInteger(), nullable=False),
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("to_city", "license_id", "from_city"),
        info={"dist": "to_city"},
    )
    op.create_index("transfer_offer_license", "transfer_offer", ["license_id"])
    if kept:
        op.bulk_insert(made, kept)
