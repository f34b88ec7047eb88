"""The client: one method for each thing that the service does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict, TypeVar, Unpack
from uuid import uuid4

import httpx

from .errors import Unavailable
from .inversions import (
    Frontier,
    Inversion,
    read_frontier,
    read_inversion,
    read_inversions,
)
from .job import Job, read_job
from .results import (
    Dataset,
    DatasetSummary,
    FloatArray,
    Model,
    Parameters,
    Predictions,
    Value,
    read_dataset,
    read_model,
    read_parameters,
    read_predictions,
    read_summary,
)
from .transport import Content, Transport, json_of, path_of

MEDIA_TYPES = {".csv": "text/csv", ".json": "application/json"}
Row = Mapping[str, Any]
Matrix = Any  # whatever numpy.asarray takes; texts are fine where an input is a category


T = TypeVar("T")
Targets = Mapping[str, Any]


class Item(TypedDict, total=False):
    """One of many questions."""

    start: Row
    target: Targets


class InvertOptions(TypedDict, total=False):
    """What may happen to inputs, what changes cost, and how an answer is sought.

    `features` says of an input: frozen, min, max, direction, step, integer, levels, order, cost,
    cost_up, cost_down. A constraint is {"terms": {"water": 1, "cement": -0.6}, "op": "<=",
    "value": 0}. `returned` asks for "trace", "duals" and "conflict".
    """

    features: Mapping[str, Mapping[str, Any]]
    constraints: Sequence[Mapping[str, Any]]
    within: Literal["training_range", "anything"]
    nearness: Literal["l1", "l2", "linf"]
    units: Literal["standardised", "raw"]
    max_changed: int
    k: int
    robust_epsilon: float
    method: Literal["auto", "gradient"]
    gradient_from: Literal["start", "exact"]
    learning_rate: float | Literal["auto"]
    steps_max: int
    tolerance: float
    time_limit_seconds: float
    returned: Sequence[Literal["trace", "duals", "conflict"]]


class Backsolve:
    """Talks to one Backsolve service; may be shared by threads.

        with Backsolve("http://127.0.0.1:8000") as backsolve:
            dataset = backsolve.upload("concrete.csv")
            model = backsolve.train(dataset.id, targets=["strength"]).wait().model()
            backsolve.predict(model.id, rows=[{"cement": 281, "water": 181, "age": 28}])
            backsolve.invert(model.id, {"strength": 50}, features={"age": {"frozen": True}})

    Every method raises APIError (see `errors` for its branches) where the service says no, and
    Unavailable where nobody answers. Reading is tried three times, and so are uploads and `train`,
    which an Idempotency-Key keeps from being carried out twice; everything else once.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout_seconds` is for each read and write; `transport` stands in for the network."""
        self._transport = Transport(base_url, timeout_seconds=timeout_seconds, transport=transport)

    def __enter__(self) -> "Backsolve":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def is_ready(self, *, timeout_seconds: float = 5.0) -> bool:
        """Whether the service answers and can do its work; asked once."""
        try:
            return self._transport.get(
                "/readyz", read=lambda _: True, retries_max=0, timeout_seconds=timeout_seconds
            )
        except Unavailable:
            return False

    def upload(self, source: str | PathLike[str] | bytes, *, name: str | None = None) -> Dataset:
        """Stores a CSV file with a header row, given as a path or as its bytes.

        A path that ends in .json is sent as JSON. `name` is for people; the file's by default.
        """
        if isinstance(source, bytes):
            stem, media_type = "dataset", "text/csv"
            opened: AbstractContextManager[Content] = nullcontext(source)
        else:
            path = Path(source)
            stem, media_type = path.stem, MEDIA_TYPES.get(path.suffix.lower(), "text/csv")
            opened = path.open("rb")
        with opened as content:
            return self._transport.post(
                "/v1/datasets",
                read=read_dataset,
                content=content,
                media_type=media_type,
                params={"name": name or stem},
                idempotency_key=str(uuid4()),
            )

    def upload_table(
        self,
        *,
        columns: Mapping[str, Any] | None = None,
        rows: Sequence[Row] | None = None,
        x: Matrix | None = None,
        y: Matrix | None = None,
        x_names: Sequence[str] | None = None,
        y_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Stores a table held in memory: `columns` by name, `rows` by name, or matrices x and y.

        Lists and numpy arrays alike; None and nan are missing. The columns of x are called x1, x2,
        ... and those of y are y or y1, y2, ... unless named.
        """
        shapes = {"columns": columns, "rows": rows, "x": x, "y": y}
        table = given(**shapes, x_names=x_names, y_names=y_names)
        return self._transport.post(
            "/v1/datasets",
            read=read_dataset,
            content=json_of(table),
            params={"name": name},
            idempotency_key=str(uuid4()),
        )

    def dataset(self, dataset_id: str) -> Dataset:
        return self._transport.get(path_of("datasets", dataset_id), read=read_dataset)

    def datasets(self) -> Iterator[DatasetSummary]:
        """Newest first, fetched as they are walked through."""
        return self._transport.pages("/v1/datasets", read=read_summary)

    def rows(self, dataset_id: str) -> Iterator[dict[str, Value | None]]:
        """The rows as they were understood, fetched as they are walked through."""
        return self._transport.pages(path_of("datasets", dataset_id, "rows"), read=dict)

    def delete_dataset(self, dataset_id: str) -> None:
        """Models trained on it stay. Conflict while a job trains on it."""
        self._transport.delete(path_of("datasets", dataset_id))

    def train(self, dataset_id: str, targets: str | Sequence[str], **spec: Any) -> Job:
        """Queues a job that learns the columns `targets` and answers at once.

        `spec` is the rest of a training spec as the API has it: inputs, activation, cost,
        solver={"name": ..., "epochs": ...}, regularization={"l2": ...}, validation, seed, ...
        """
        return self._transport.post(
            "/v1/jobs",
            read=self._read_job,
            content=training_spec(dataset_id, targets, spec),
            idempotency_key=str(uuid4()),
        )

    def resolve(self, dataset_id: str, targets: str | Sequence[str], **spec: Any) -> dict[str, Any]:
        """The spec that `train` would use, every default decided; nothing is created."""
        return self._transport.post(
            "/v1/jobs",
            read=dict,
            content=training_spec(dataset_id, targets, spec),
            params={"validate_only": True},
        )

    def job(self, job_id: str) -> Job:
        return self._transport.get(path_of("jobs", job_id), read=self._read_job)

    def jobs(self, *, state: str | None = None) -> Iterator[Job]:
        """Newest first, fetched as they are walked through."""
        return self._transport.pages("/v1/jobs", read=self._read_job, state=state)

    def model(self, model_id: str) -> Model:
        return self._transport.get(path_of("models", model_id), read=read_model)

    def models(self) -> Iterator[Model]:
        """Newest first, fetched as they are walked through."""
        return self._transport.pages("/v1/models", read=read_model)

    def parameters(self, model_id: str, *, space: str = "raw") -> Parameters:
        """w and b, for inputs in their own units (`raw`) or scaled as in training (`scaled`)."""
        return self._transport.get(
            path_of("models", model_id, "parameters"), read=read_parameters, params={"space": space}
        )

    def predict(
        self, model_id: str, *, rows: Sequence[Row] | None = None, x: Matrix | None = None
    ) -> Predictions:
        """Forward: `rows` by name, or `x` with columns in the order of the model's inputs."""
        return self._transport.post(
            path_of("models", model_id, "predict"),
            read=read_predictions,
            content=json_of(given(rows=rows, x=x)),
        )

    def invert(
        self,
        model_id: str,
        target: Targets,
        *,
        start: Row | None = None,
        **options: Unpack[InvertOptions],
    ) -> Inversion:
        """Backward: the nearest input to `start` that gives `target`, or why there is none.

            invert(model_id, {"strength": {"min": 50}}, features={"age": {"frozen": True}})

        A target is a value, "maximize" or "minimize", {"min": ..., "max": ...} or
        {"class": ..., "margin": ..., "probability": ...}. What is left out of the options (see
        InvertOptions) has the service's default; an input left out of `start` is typical.
        """
        return self._ask(model_id, read_inversion, options, target=target, start=start)

    def invert_many(
        self,
        model_id: str,
        items: Sequence[Item],
        *,
        target: Targets | None = None,
        start: Row | None = None,
        **options: Unpack[InvertOptions],
    ) -> list[Inversion]:
        """The answers to many questions, in order; an item has a `start`, a `target`, or both.

        What an item leaves out is that of all.
        """
        asked = [given(**{"from": item.get("start")}, target=item.get("target")) for item in items]
        return self._ask(
            model_id, read_inversions, options, target=target, start=start, items=asked
        )

    def frontier(
        self,
        model_id: str,
        output: str,
        values: Sequence[float] | FloatArray,
        *,
        bound: Literal["value", "min", "max"] | None = None,
        target: Targets | None = None,
        start: Row | None = None,
        **options: Unpack[InvertOptions],
    ) -> Frontier:
        """What each of many targets of one output costs; `target` holds for the other outputs."""
        points = given(output=output, values=values, bound=bound)
        return self._ask(
            model_id, read_frontier, options, target=target, start=start, frontier=points
        )

    def _ask(
        self,
        model_id: str,
        read: Callable[[Any], T],
        options: InvertOptions,
        *,
        start: Row | None,
        **fields: Any,
    ) -> T:
        question = given(**{**options, "return": options.get("returned"), "from": start}, **fields)
        question.pop("returned", None)
        return self._transport.post(
            path_of("models", model_id, "invert"), read=read, content=json_of(question)
        )

    @property
    def _read_job(self) -> Callable[[Any], Job]:
        return lambda answer: read_job(answer, self._transport)


def given(**fields: Any) -> dict[str, Any]:
    """Without what was left open: the service decides that."""
    return {name: value for name, value in fields.items() if value is not None}


def training_spec(dataset_id: str, targets: str | Sequence[str], spec: Mapping[str, Any]) -> bytes:
    names = [targets] if isinstance(targets, str) else list(targets)
    return json_of({"dataset_id": dataset_id, "targets": names, **spec})
