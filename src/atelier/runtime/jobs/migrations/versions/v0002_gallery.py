"""The gallery: stars, boards, the trash, and what images are found by; places in one's own line of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.add_column("jobs", sa.Column("place", BIG))
    _gallery()
    _boards()
    _enter()


def _gallery() -> None:
    op.create_table(
        "gallery",
        sa.Column("sequence", BIG, autoincrement=True, nullable=False),
        sa.Column("image", sa.String(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("made", SECONDS, nullable=False),
        sa.Column("starred", sa.Boolean(), nullable=False),
        sa.Column("deleted", SECONDS),
        sa.Column("indexed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_gallery"),
        sa.UniqueConstraint("image", name="uq_gallery_image"),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name="fk_gallery_image", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_gallery_owner_deleted_sequence", "gallery", ["owner", "deleted", "sequence"])
    op.create_index("ix_gallery_indexed", "gallery", ["indexed"])
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("entry", BIG, autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("number", SECONDS),
        sa.PrimaryKeyConstraint("name", "entry", name="pk_facts"),
        sa.ForeignKeyConstraint(["entry"], ["gallery.sequence"], name="fk_facts_entry", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_facts_entry", "facts", ["entry"])


def _boards() -> None:
    op.create_table(
        "boards",
        sa.Column("sequence", BIG, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_boards"),
        sa.UniqueConstraint("id", name="uq_boards_id"),
        sa.UniqueConstraint("owner", "name", name="uq_boards_owner_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pinned",
        sa.Column("board", BIG, autoincrement=False, nullable=False),
        sa.Column("entry", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("board", "entry", name="pk_pinned"),
        sa.ForeignKeyConstraint(["board"], ["boards.sequence"], name="fk_pinned_board", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["entry"], ["gallery.sequence"], name="fk_pinned_entry", ondelete="CASCADE"),
    )
    op.create_index("ix_pinned_entry", "pinned", ["entry"])


def _enter() -> None:
    """The images that there are, in the order of their jobs. Their facts are read later, beside the work."""
    op.execute(
        "INSERT INTO gallery (image, owner, made, starred, indexed) "
        "SELECT images.id, jobs.owner, coalesce(jobs.ended, jobs.started, jobs.created), false, 0 "
        "FROM images JOIN jobs ON jobs.id = images.job ORDER BY jobs.sequence, images.number"
    )
