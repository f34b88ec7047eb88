"""How much work a job may be: counted against what its owner may have going on.

Jobs from before count as none. On the way back their specs lose what the code of before would not
read.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("resolved_spec", sa.JSON()))


def upgrade() -> None:
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(
            sa.Column("multiply_adds", sa.BigInteger(), server_default="0", nullable=False)
        )


def downgrade() -> None:
    connection = op.get_bind()
    for job in connection.execute(sa.select(jobs)).all():
        spec = {name: value for name, value in job.resolved_spec.items() if name != "multiply_adds"}
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(resolved_spec=spec))
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("multiply_adds")
