"""Keep conflicts and what cities say in them, so that both sides and an operator can settle them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "conflict",
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("city", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("entry_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("held_license", sa.LargeBinary(length=16), nullable=False),
        sa.Column("held_city", sa.Integer(), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("registry_epoch", sa.BigInteger(), nullable=False),
        sa.Column("registry_index", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("standing_license", sa.LargeBinary(length=16), nullable=False),
        sa.Column("void_license", sa.LargeBinary(length=16), nullable=False),
        sa.Column("ending", sa.SmallInteger(), nullable=False),
        sa.Column("basis", sa.String(length=500), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False),
        sa.Column("notice_city", sa.Integer(), nullable=False),
        sa.Column("notice_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person_key", "license_id"),
        info={"dist": "person_key"},
    )
    op.create_index("ix_conflict_license_id", "conflict", ["license_id"])
    op.create_index("ix_conflict_state", "conflict", ["state"])
    op.create_table(
        "conflict_statement",
        sa.Column("conflict_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("city", sa.Integer(), nullable=False),
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("grounds", sa.String(length=500), nullable=False),
        sa.Column("clerk", sa.String(length=200), nullable=False),
        sa.Column("stated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conflict_id", "seq"),
        info={"dist": "conflict_id"},
    )
