"""Models of labels, warnings of jobs, and what the bits of a job depend on.

Jobs from before are told apart by what they did: regression, in memory. On the way back, jobs that
asked for what came later cannot be read by the code of before.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("resolved_spec", sa.JSON()))

# What a spec of before did without saying so.
ADDED: dict[str, Any] = {"task": "regression", "in_memory": True}


def upgrade() -> None:
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("warnings", sa.JSON(), server_default="[]", nullable=False))
        batch.add_column(sa.Column("environment", sa.JSON(), nullable=True))
    with op.batch_alter_table("models") as batch:
        batch.add_column(sa.Column("classes", sa.JSON(), nullable=True))
    change_specs(lambda spec: ADDED | spec)


def downgrade() -> None:
    change_specs(lambda spec: {name: value for name, value in spec.items() if name not in ADDED})
    with op.batch_alter_table("models") as batch:
        batch.drop_column("classes")
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("environment")
        batch.drop_column("warnings")


def change_specs(change: Any) -> None:
    connection = op.get_bind()
    for job in connection.execute(sa.select(jobs)).all():
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job.id)
            .values(resolved_spec=change(job.resolved_spec))
        )
