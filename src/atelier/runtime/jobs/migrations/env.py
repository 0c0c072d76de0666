"""Read by Alembic: runs the scripts on the connection that the store gives, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from atelier.runtime.jobs.tables import metadata

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection)
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
