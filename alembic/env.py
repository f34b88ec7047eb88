"""Runs migrations on the connection that `app.storage.migrations` hands over, under one lock."""

from alembic import context
from sqlalchemy import Connection, text

from app.settings import Settings
from app.storage.database import database_of
from app.storage.migrations import migrating
from app.storage.tables import Base

# Any number will do, as long as nothing else on the server uses it for an advisory lock.
MIGRATION_LOCK = 7_203_114_886


def migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with migrating(database_of(Settings())) as own:
        migrate(own)
