"""Jobs, their images, uploads and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECONDS: sa.Double[float] = sa.Double()
STATES = "'queued', 'running', 'done', 'failed', 'cancelled', 'timed_out', 'quarantined'"


def upgrade() -> None:
    _jobs()
    _images()
    _inputs()
    op.create_table(
        "keys",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("created", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keys"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_keys_job", ondelete="CASCADE"),
    )
    op.create_table(
        "doomed", sa.Column("path", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("path", name="pk_doomed")
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("sequence", BIG, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("cost", SECONDS, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("timeout", SECONDS),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("lease", sa.String(32)),
        sa.Column("created", SECONDS, nullable=False),
        sa.Column("started", SECONDS),
        sa.Column("ended", SECONDS),
        sa.Column("seconds", SECONDS),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("resolved", sa.Text()),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.PrimaryKeyConstraint("sequence", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_jobs_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_state_sequence", "jobs", ["state", "sequence"])
    op.create_index("ix_jobs_owner_sequence", "jobs", ["owner", "sequence"])


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("job", "number", name="uq_images_job_number"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_images_job", ondelete="CASCADE"),
    )
    op.create_table(
        "thumbnails",
        sa.Column("image", sa.String(32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("image", name="pk_thumbnails"),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name="fk_thumbnails_image", ondelete="CASCADE"),
    )


def _inputs() -> None:
    op.create_table(
        "uploads",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("owner", "sha256", name="pk_uploads"),
    )
    op.create_index("ix_uploads_sha256", "uploads", ["sha256"])
    op.create_table(
        "needs",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job", "owner", "sha256", name="pk_needs"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_needs_job", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["owner", "sha256"],
            ["uploads.owner", "uploads.sha256"],
            name="fk_needs_owner_sha256",
            ondelete="CASCADE",
        ),
    )
