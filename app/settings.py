"""Every knob of the service: one frozen class, read from BACKSOLVE_ environment variables."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
# Sums of them stay within what a database counts in.
Budget = Annotated[int, Field(gt=0, le=10**18)]
Seconds = Annotated[float, Field(gt=0)]

OBJECT_STORE_OPTIONS = {"region", "scheme", "endpoint_override"}


class ObjectStore(NamedTuple):
    """`path` is bucket/prefix; `options` are those that the URL names."""

    path: str
    options: dict[str, str]


class Settings(BaseSettings):
    """The settings of one process; `docs/operations.md` lists them, held by a test."""

    model_config = SettingsConfigDict(env_prefix="BACKSOLVE_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port that the API listens on; 0 takes a free one."
    )
    data_dir: Path = Field(
        Path("data"), description="Folder of the embedded database, the blobs and the lock file."
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL; empty means SQLite in the data folder."
    )
    storage_url: str = Field(
        "",
        description="Folder or s3://bucket/prefix for uploaded tables; empty means `blobs` in the "
        "data folder.",
    )
    blob_cache_bytes_max: Positive = Field(
        10 * 2**30, description="Disk that copies of tables from s3:// take in the data folder."
    )
    orphan_hours: Seconds = Field(
        24.0,
        description="Age at which a stored file that no dataset names is deleted, in hours.",
    )
    scheduler_address: str = Field(
        "", description="Dask scheduler to use, tcp://host:port; empty starts local workers."
    )
    tls_dir: str = Field(
        "",
        description="Folder with ca.pem, cert.pem and key.pem; with it scheduler, workers and "
        "dispatcher talk TLS only.",
        validate_default=True,
    )
    workers: Positive = Field(2, description="Local worker processes of the embedded dispatcher.")

    lease_seconds: Seconds = Field(
        60.0,
        description="A running job whose worker has been silent this long is given to another.",
    )
    heartbeat_seconds: Seconds = Field(
        1.0, description="How often a running job writes its history, progress and heartbeat."
    )
    dispatch_seconds: Seconds = Field(
        1.0, description="The longest the dispatcher waits before it looks at the rows again."
    )
    attempts_max: Positive = Field(
        3, description="A job whose workers died this many times is failed with `worker_lost`."
    )

    idempotency_days: Seconds = Field(
        7.0, description="How long the answer to an `Idempotency-Key` is kept, in days."
    )

    owner_jobs_max: Positive = Field(
        1000, description="Most jobs of one owner that have not ended; one more is a 429."
    )
    job_budget: Budget = Field(
        10**15,
        description="Most multiply-adds (training rows x encoded inputs x outputs x epochs) of one "
        "job: a day or so of one core.",
    )
    owner_budget: Budget = Field(
        10**16,
        description="Most multiply-adds of all jobs of one owner that have not ended; more is a "
        "429.",
    )
    owner_running_max: Positive = Field(
        1000, description="Most jobs of one owner that run at once; the others wait."
    )
    queued_jobs_max: Positive = Field(
        10_000, description="Most jobs that wait for a worker; one more is a 503."
    )

    wait_seconds_max: Positive = Field(
        60, description="Longest that a request for a job waits for its end (`Prefer: wait`)."
    )

    upload_bytes_max: Positive = Field(256 * 2**20, description="Largest dataset upload.")
    json_bytes_max: Positive = Field(16 * 2**20, description="Largest body of any other request.")
    rows_max: Positive = Field(5_000_000, description="Most rows in a dataset.")
    columns_max: Positive = Field(4096, description="Most columns in a dataset.")
    cells_max: Positive = Field(50_000_000, description="Most cells (rows x columns) in a dataset.")
    levels_max: Positive = Field(
        1000, description="Most levels of a categorical column that a model may take as an input."
    )
    parameters_max: Positive = Field(
        4_000_000, description="Most weights (outputs x encoded inputs) of one model."
    )
    training_bytes_max: Positive = Field(
        1600 * 10**6,
        description="Encoded rows that a job holds in memory; more are read from the file in every "
        "pass.",
    )
    predict_rows_max: Positive = Field(100_000, description="Most rows in one predict request.")
    model_cache_entries: Positive = Field(
        64, description="Models kept in memory by one API process."
    )
    invert_steps_max: Positive = Field(
        100_000, description="Most steps that one gradient inversion may ask for."
    )

    invert_seconds_max: Seconds = Field(
        30.0, description="Longest time limit that one inversion may ask for."
    )

    database_seconds: Seconds = Field(
        5.0, description="The longest that one call to PostgreSQL may take, a connect included."
    )
    database_busy_seconds: Seconds = Field(
        30.0, description="How long a write waits for SQLite's lock, or for a pooled connection."
    )
    shutdown_seconds: Positive = Field(
        8, description="How long open requests may go on after SIGTERM; under Docker's 10 s."
    )
    log_level: str = Field("INFO", description="Least severe log records that are printed.")

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'backsolve.db'}"

    @field_validator("scheduler_address")
    @classmethod
    def is_an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"(tcp|tls)://([\w.-]+|\[[0-9a-fA-F:]+\]):\d+", value):
            raise ValueError("an address looks like tcp://host:8786")
        return value

    @field_validator("tls_dir")
    @classmethod
    def is_there_for_tls(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("scheduler_address", "").startswith("tls://"):
            raise ValueError("tls:// in BACKSOLVE_SCHEDULER_ADDRESS needs it")
        return value

    @property
    def resolved_scheduler_address(self) -> str:
        """With certificates there is no way to talk without them, whatever the address says."""
        if not self.tls_dir:
            return self.scheduler_address
        return self.scheduler_address.replace("tcp://", "tls://", 1)

    @field_validator("storage_url")
    @classmethod
    def is_a_known_store(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme not in {"file", "s3"}:
            raise ValueError(
                f"{scheme}:// is not supported: give a path, file:///path or s3://bucket/prefix"
            )
        if scheme == "s3":
            parts = urlsplit(value)
            if "@" in parts.netloc:
                raise ValueError("credentials belong in AWS_ACCESS_KEY_ID and the like, not in it")
            if not parts.netloc:
                raise ValueError("s3:// needs a bucket: s3://bucket/prefix")
            if unknown := {name for name, _ in parse_qsl(parts.query)} - OBJECT_STORE_OPTIONS:
                known = ", ".join(sorted(OBJECT_STORE_OPTIONS))
                raise ValueError(f"{', '.join(sorted(unknown))} is not one of {known}")
        return value

    @property
    def object_store(self) -> ObjectStore | None:
        """Where the tables are, if that is no folder."""
        if not self.storage_url.startswith("s3://"):
            return None
        parts = urlsplit(self.storage_url)
        path = f"{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
        return ObjectStore(path, dict(parse_qsl(parts.query)))

    @property
    def resolved_storage_folder(self) -> Path:
        """The folder of the tables; those from an object store are copied to another."""
        if not self.storage_url:
            return self.data_dir.resolve() / "blobs"
        return Path(self.storage_url.removeprefix("file://")).resolve()
