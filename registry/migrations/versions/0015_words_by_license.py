"""Find the words about a licence whichever city was told: what an erasure looks for."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_index("disposition_license", "disposition", ["license_id"])
