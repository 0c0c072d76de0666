"""Canvases, and the uploads that they show."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "canvases",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created", SECONDS, nullable=False),
        sa.Column("changed", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", name="pk_canvases"),
    )
    _shown()


def _shown() -> None:
    op.create_table(
        "shown",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("canvas", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("owner", "canvas", "sha256", name="pk_shown"),
        sa.ForeignKeyConstraint(
            ["owner", "canvas"], ["canvases.owner", "canvases.id"], name="fk_shown_owner_canvas", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["owner", "sha256"], ["uploads.owner", "uploads.sha256"], name="fk_shown_owner_sha256", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_shown_owner_sha256", "shown", ["owner", "sha256"])
