"""The scalings of a column: one row of a table each, value -> (value - offset) / scale."""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from app.numeric.column_statistics import ColumnStatistics
from app.numeric.errors import NumericError

# Offset and scale; a constant has scale 1 in all of them.
SCALINGS: Mapping[str, Callable[[ColumnStatistics], tuple[float, float]]] = MappingProxyType(
    {
        "standard": lambda found: (found.mean, found.deviation),
        "min_max": lambda found: (found.minimum, found.maximum - found.minimum),
        "none": lambda _: (0.0, 1.0),
    }
)


def offset_and_scale(scaling: str, found: ColumnStatistics, *, of: str) -> tuple[float, float]:
    """The two numbers of a column with these statistics; scale is above 0.

    `standard` gives mean 0 and population standard deviation 1, `min_max` the range from 0 to 1.
    Raises NumericError if the column, called `of`, has numbers so far apart that no float64 holds
    their distance from the offset.
    """
    offset, scale = SCALINGS[scaling](found)
    if math.isinf(found.maximum - offset) or math.isinf(found.minimum - offset):
        raise NumericError(f"{of} has numbers too far apart to be scaled")
    return offset, 1.0 if found.minimum == found.maximum else scale


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises NumericError, a sentence with the names there are, for another name."""
    names = tuple(known)
    if name not in names:
        raise NumericError(f"There is no {what} {name}; choose one of {', '.join(names)}.")
