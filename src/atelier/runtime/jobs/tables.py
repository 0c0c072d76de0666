"""The tables, as the newest migration leaves them. What users write is kept as ASCII JSON: every database holds it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from atelier.runtime.jobs.job import State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_BIG = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts rows in 64 bits under the name INTEGER alone."""

STATES = ", ".join(f"'{state}'" for state in State)

jobs = Table(
    "jobs",
    metadata,
    Column("sequence", _BIG, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("cost", Double, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("timeout", Double),
    Column("cancelling", Boolean, nullable=False),
    Column("lease", String(32)),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("seconds", Double),
    Column("asked", Text, nullable=False),
    Column("resolved", Text),
    Column("digest", String(64), nullable=False),
    Column("warnings", Text, nullable=False),
    Column("error", Text),
    Column("result", Text),
    Column("place", _BIG),
    UniqueConstraint("id"),
    CheckConstraint(f"state IN ({STATES})", name="state"),
    Index(None, "state", "sequence"),
    Index(None, "owner", "sequence"),
    sqlite_autoincrement=True,
)
"""asked, resolved: JSON; digest: SHA-256 of both. lease: the token of who runs it. seconds: the last run's, by the
clock that never jumps; created, started, ended are for people. place: in its owner's line, the sequence unless it was
moved."""

images = Table(
    "images",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("file", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("details", Text, nullable=False),
    UniqueConstraint("job", "number"),
)
"""file: its name among the outputs; details: seed, width, height, format, infotext."""

thumbnails = Table(
    "thumbnails",
    metadata,
    Column("image", String(32), ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""A few kilobytes each: faster here than as files, and they come and go with their images."""

uploads = Table(
    "uploads",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Index(None, "sha256"),
)

needs = Table(
    "needs",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    ForeignKeyConstraint(["owner", "sha256"], ["uploads.owner", "uploads.sha256"], ondelete="CASCADE"),
)
"""Which uploads a job reads."""

canvases = Table(
    "canvases",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
)
"""id: as its owner calls it; name, document: JSON."""

shown = Table(
    "shown",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("canvas", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    ForeignKeyConstraint(["owner", "canvas"], ["canvases.owner", "canvases.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["owner", "sha256"], ["uploads.owner", "uploads.sha256"], ondelete="CASCADE"),
    Index(None, "owner", "sha256"),
)
"""Which uploads a canvas shows."""

keys = Table(
    "keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created", Double, nullable=False),
)
"""Idempotency keys. name: SHA-256 of the owner and the key."""

doomed = Table("doomed", metadata, Column("path", Text, primary_key=True))
"""Files that lost their rows and are about to be removed: a kill in between leaves nothing that nobody knows."""

gallery = Table(
    "gallery",
    metadata,
    Column("sequence", _BIG, primary_key=True, autoincrement=True),
    Column("image", String(32), ForeignKey("images.id", ondelete="CASCADE"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("made", Double, nullable=False),
    Column("starred", Boolean, nullable=False),
    Column("deleted", Double),
    Column("indexed", Integer, nullable=False),
    UniqueConstraint("image"),
    Index(None, "owner", "deleted", "sequence"),
    Index(None, "indexed"),
    sqlite_autoincrement=True,
)
"""What owners do with their images. deleted: since when it lies in the trash; indexed: the version of its facts."""

facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("entry", _BIG, ForeignKey("gallery.sequence", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
    Column("number", Double),
    Index(None, "entry"),
    sqlite_with_rowid=False,
)
"""What images are found by. value: as `facts.spelled` writes it; all facts of one name lie side by side."""

boards = Table(
    "boards",
    metadata,
    Column("sequence", _BIG, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("owner", "name"),
    sqlite_autoincrement=True,
)
"""name: as JSON."""

pinned = Table(
    "pinned",
    metadata,
    Column("board", _BIG, ForeignKey("boards.sequence", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("entry", _BIG, ForeignKey("gallery.sequence", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Index(None, "entry"),
)
"""Which images are on which boards."""
