"""Blocks of history say where they end, and carry what a long history is shown by.

Those from before are not thinned, and are read whole.

Revision ID: 0004
Revises: 0003
"""

import struct

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RECORD_BYTES = 32

blocks = sa.table(
    "history_blocks",
    sa.column("job_id", sa.String()),
    sa.column("first_epoch", sa.BigInteger()),
    sa.column("last_epoch", sa.BigInteger()),
    sa.column("records", sa.LargeBinary()),
)


def upgrade() -> None:
    # SQLite reads a row up to what is asked for: the long records stand last there.
    remade = op.get_bind().dialect.name == "sqlite"
    place = {"insert_before": "records"} if remade else {}
    with op.batch_alter_table("history_blocks", recreate="always" if remade else "auto") as batch:
        batch.add_column(
            sa.Column("last_epoch", sa.BigInteger(), server_default="0", nullable=False), **place
        )
        batch.add_column(sa.Column("thinned", sa.LargeBinary(), nullable=True), **place)
    fill_last_epochs()
    with op.batch_alter_table("history_blocks") as batch:
        batch.alter_column("last_epoch", server_default=None, existing_type=sa.BigInteger())


def fill_last_epochs() -> None:
    """The last record is the end of the packed array, and begins with its epoch."""
    connection = op.get_bind()
    start = sa.func.length(blocks.c.records) - (RECORD_BYTES - 1)
    epoch = sa.func.substr(blocks.c.records, start, 8, type_=sa.LargeBinary())
    for block in connection.execute(
        sa.select(blocks.c.job_id, blocks.c.first_epoch, epoch.label("epoch"))
    ).all():
        connection.execute(
            sa.update(blocks)
            .where(blocks.c.job_id == block.job_id, blocks.c.first_epoch == block.first_epoch)
            .values(last_epoch=int(struct.unpack("<d", block.epoch)[0]))
        )


def downgrade() -> None:
    with op.batch_alter_table("history_blocks") as batch:
        batch.drop_column("thinned")
        batch.drop_column("last_epoch")
