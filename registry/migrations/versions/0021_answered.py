"""How far each city's feed was answered; of what there is, whatever was in the feed may have been."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.execute("INSERT INTO feed_mark (city, what, epoch, seq) SELECT city, 4, 0, seq FROM disposition_feed")
