"""Iris with what real tables have: gaps and a category; and the plain encoding of that."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from app.numeric.activations import Array

NUMBERS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SPECIES = np.array(["versicolor", "setosa", "virginica"])
ISLANDS = np.array(["Skye", "Mull", "Arran"])


class Flowers(NamedTuple):
    """`table` is what is uploaded: "" is missing. `numbers` (N, 4) has nan there, `island` None."""

    table: dict[str, Any]
    numbers: Array
    island: NDArray[np.object_]
    species: NDArray[np.str_]

    def rows(self, chosen: NDArray[np.intp]) -> list[dict[str, Any]]:
        """Some rows as predict takes them."""
        return [
            {
                **{
                    name: None if np.isnan(value) else float(value)
                    for name, value in zip(NUMBERS, self.numbers[row], strict=True)
                },
                "island": self.island[row],
            }
            for row in chosen
        ]


def flowers(labels: int, *, gaps: float = 0.1, seed: int = 3) -> Flowers:
    """150 flowers of three species, or the 100 that are harder to tell apart."""
    random = np.random.default_rng(seed)
    data = load_iris()
    chosen = np.flatnonzero(data.target != 0) if labels == 2 else np.arange(150)
    chosen = random.permutation(chosen)
    species = SPECIES[np.array([1, 0, 2])[data.target[chosen]]]
    numbers = data.data[chosen] + random.normal(scale=0.3, size=(len(chosen), 4))
    numbers[random.random(numbers.shape) < gaps] = np.nan
    island = ISLANDS[random.integers(0, 3, len(chosen))].astype(object)
    island[random.random(len(chosen)) < gaps] = None
    table: dict[str, Any] = {
        name: np.array(["" if np.isnan(cell) else repr(float(cell)) for cell in column])
        for name, column in zip(NUMBERS, numbers.T, strict=True)
    }
    table["island"] = np.array([cell or "" for cell in island])
    table["species"] = species
    return Flowers(table, numbers, island, species)


def encoded(data: Flowers, training: NDArray[np.intp]) -> Array:
    """x (N, n) as the documentation describes it, written down once more: fills by the median."""
    columns: list[Array] = []
    for values in data.numbers.T:
        present = values[training][~np.isnan(values[training])]
        filled = np.where(np.isnan(values), np.median(present), values)
        columns.append((filled - present.mean()) / present.std())
        if np.isnan(values[training]).any():
            columns.append(np.isnan(values).astype(float))
    missing = data.island == None  # noqa: E711 - of each element
    levels = list(dict.fromkeys(cell for cell in data.island if cell is not None))
    counts = [int((data.island[training] == level).sum()) for level in levels]
    filled_island = np.where(missing, levels[int(np.argmax(counts))], data.island)
    columns += [(filled_island == level).astype(float) for level in levels]
    if missing[training].any():
        columns.append(missing.astype(float))
    return np.column_stack(columns)


def random_parts(
    rows: int, seed: int = 0, fraction: float = 0.2
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Training and validation rows by the documented recipe."""
    order = np.random.Generator(np.random.Philox(seed)).permutation(rows)
    count = round(fraction * rows)
    return np.sort(order[count:]), np.sort(order[:count])
