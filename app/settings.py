"""Every knob of the service: one frozen class, read from BACKSOLVE_ environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


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
        "", description="Folder for uploaded tables; empty means `blobs` in the data folder."
    )
    scheduler_address: str = Field(
        "", description="Dask scheduler to use, tcp://host:port; empty starts local workers."
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

    @field_validator("storage_url")
    @classmethod
    def is_a_folder(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme != "file":
            raise ValueError(
                f"{scheme}:// is not supported yet, only a folder: give a path or file:///path"
            )
        return value

    @property
    def resolved_storage_folder(self) -> Path:
        if not self.storage_url:
            return self.data_dir.resolve() / "blobs"
        return Path(self.storage_url.removeprefix("file://")).resolve()
