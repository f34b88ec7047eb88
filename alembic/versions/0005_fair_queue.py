"""Indexes that the queue is read from owner by owner, and recent ends from.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_jobs_state_owner_id"), "jobs", ["state", "owner", "id"], unique=False)
    op.create_index(op.f("ix_jobs_ended_at"), "jobs", ["ended_at"], unique=False)
    op.drop_index(op.f("ix_jobs_state_id"), table_name="jobs")


def downgrade() -> None:
    op.create_index(op.f("ix_jobs_state_id"), "jobs", ["state", "id"], unique=False)
    op.drop_index(op.f("ix_jobs_ended_at"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_state_owner_id"), table_name="jobs")
