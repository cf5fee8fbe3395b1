"""Keep rulings by person too: a licence id is each city's own choice, so persons may share one."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    ruling = sa.table("license_ruling", *map(sa.column, ("license_id", "decided_us", "before", "after")))
    indexed = sa.table("license_revision", *map(sa.column, ("license_id", "person_key")))
    # Until now a ruling was told of whoever had a licence with its id.
    told = (
        sa.select(ruling.c.license_id, indexed.c.person_key, ruling.c.decided_us, ruling.c.before, ruling.c.after)
        .join(indexed, indexed.c.license_id == ruling.c.license_id)
        .distinct()
    )
    kept = [row._asdict() for row in op.get_bind().execute(told)]
    op.drop_table("license_ruling")
    made = op.create_table(
        "license_ruling",
        sa.Column("license_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.SmallInteger(), nullable=False),
        sa.Column("after", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("license_id", "person_key", "decided_us"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
    if kept:
        op.bulk_insert(made, kept)
