"""Where the registry's log has what a city signed that it knows; what is held already is written there by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.add_column("told", sa.Column("registry_epoch", sa.BigInteger(), nullable=True))
    op.add_column("told", sa.Column("registry_idx", sa.BigInteger(), nullable=True))
    op.create_index("told_unlogged", "told", ["registry_epoch"])
