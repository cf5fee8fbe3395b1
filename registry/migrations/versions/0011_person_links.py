"""Keep which documents lead to a person who is known by an earlier one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "person_link",
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("first_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("city", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person_key"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )
    op.create_index("person_link_first", "person_link", ["first_key"])
