"""Leave room beside each lease, in the same page, for the hold that it becomes.

Every lease is written once more, when a record uses it, and those of one page at once.
With room for all of them there PostgreSQL need not enter any in the index anew.  It costs
that room for good, some hundred bytes a person.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change how full pages are written from now on; those that stand stay as they are."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE claim SET (fillfactor = 50)")
