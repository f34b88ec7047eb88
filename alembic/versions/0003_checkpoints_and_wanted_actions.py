"""Checkpoints, kept answers, and what is wanted of a running job: more than to be cancelled.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

jobs = sa.table(
    "jobs",
    sa.column("state", sa.String()),
    sa.column("wanted", sa.String()),
    sa.column("cancel_wanted", sa.Boolean()),
)


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            name=op.f("fk_checkpoints_job_id_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("route", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.String(length=200), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "route", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False
    )
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("wanted", sa.String(length=20), nullable=True))
    op.execute(sa.update(jobs).where(jobs.c.cancel_wanted).values(wanted="cancel"))
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("cancel_wanted")


def downgrade() -> None:
    """A paused job starts anew: the code of before knows neither the state nor checkpoints."""
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(
            sa.Column("cancel_wanted", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    op.execute(sa.update(jobs).where(jobs.c.wanted == "cancel").values(cancel_wanted=sa.true()))
    op.execute(sa.update(jobs).where(jobs.c.state == "paused").values(state="queued"))
    with op.batch_alter_table("jobs") as batch:
        batch.alter_column("cancel_wanted", server_default=None, existing_type=sa.Boolean())
        batch.drop_column("wanted")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("checkpoints")
