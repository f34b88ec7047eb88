"""All tables on one page.

Every row that a caller can see carries its `owner`; there is one owner until API keys exist.
Datasets and models never change once written. A job's states and their moves are in
`app/jobs/states.py`; `attempt` is its fence: a worker's write counts only under the attempt that it
claimed.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

JsonObject = dict[str, Any]

Json = JSON(none_as_null=True)
AutoId = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware of it on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: UtcDateTime,
        JsonObject: Json,
        list[JsonObject]: Json,
        list[str]: Json,
        int: BigInteger,
    }


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    columns: Mapped[list[JsonObject]]
    warnings: Mapped[list[JsonObject]]
    row_count: Mapped[int]
    byte_count: Mapped[int]
    content_sha256: Mapped[str] = mapped_column(String(64))
    blob_key: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime]


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "owner", "id"),
        # The queue is read from this index alone, and what is live of an owner is counted in it.
        Index(None, "state", "owner", "id"),
        Index(None, "ended_at"),
        Index(None, "dataset_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    # The dataset may be deleted once no live job needs it; the spec still names it.
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    spec: Mapped[JsonObject]
    resolved_spec: Mapped[JsonObject]
    state: Mapped[str] = mapped_column(String(20))
    wanted: Mapped[str | None] = mapped_column(String(20))
    delivery: Mapped[int]
    attempt: Mapped[int]
    deaths: Mapped[int]
    # The most that it may take; those of what is live of an owner are summed.
    multiply_adds: Mapped[int] = mapped_column(default=0, server_default="0")
    worker: Mapped[str | None] = mapped_column(String(200))
    heartbeat_at: Mapped[datetime | None]
    lease_ends_at: Mapped[datetime | None]
    progress: Mapped[JsonObject | None]
    stop_reason: Mapped[str | None] = mapped_column(String(20))
    error: Mapped[JsonObject | None]
    scores: Mapped[JsonObject | None]
    warnings: Mapped[list[str]] = mapped_column(default=list, server_default="[]")
    environment: Mapped[JsonObject | None]
    model_id: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class JobTransitionRow(Base):
    __tablename__ = "job_transitions"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(AutoId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(String(40))
    worker: Mapped[str | None] = mapped_column(String(200))
    attempt: Mapped[int]


class HistoryBlockRow(Base):
    """Rows of (epoch, cost, validation cost, step norm) as one packed array, in epoch order.

    `thinned` are those of them that a long history is shown by; null: the block is short.
    """

    __tablename__ = "history_blocks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    first_epoch: Mapped[int] = mapped_column(primary_key=True)
    # Before the records: SQLite reads all of a row that stands before what is asked for.
    last_epoch: Mapped[int]
    thinned: Mapped[bytes | None] = mapped_column(LargeBinary)
    records: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """Where a job that has not ended can go on: all that its next step reads, as packed bytes.

    `environment` is what computed it; on another one the same bits cannot be promised.
    """

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int]
    state: Mapped[bytes] = mapped_column(LargeBinary)
    environment: Mapped[JsonObject]
    saved_at: Mapped[datetime]


class KeptAnswerRow(Base):
    """The answer to a request that created something, under the key that its caller gave it.

    Stored in the transaction that created it, so that the same request is never carried out twice.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    route: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    location: Mapped[str] = mapped_column(String(200))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (
        Index(None, "owner", "id"),
        UniqueConstraint("owner", "name", "version"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="SET NULL"), unique=True
    )
    dataset_id: Mapped[str] = mapped_column(String(40))
    activation: Mapped[str] = mapped_column(String(40))
    cost: Mapped[str] = mapped_column(String(40))
    outputs: Mapped[list[JsonObject]]
    classes: Mapped[JsonObject | None]
    preprocessing: Mapped[JsonObject]
    w: Mapped[bytes] = mapped_column(LargeBinary)
    b: Mapped[bytes] = mapped_column(LargeBinary)
    parameters_sha256: Mapped[str] = mapped_column(String(64))
    scores: Mapped[JsonObject]
    created_at: Mapped[datetime]
