"""The jobs of a storm: half a second each, with checkpoints of several kinds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Json = dict[str, Any]


def table() -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    random = np.random.default_rng(11)
    x = random.normal(size=(200, 5))
    y = x @ np.arange(5.0) + random.normal(size=200)
    return {f"x{k}": x[:, k] for k in range(5)} | {"y": y}


def counted(name: str, epochs: int, **solver: Any) -> Json:
    """A job that ends by its epochs, whatever happens to it."""
    return {
        "targets": ["y"],
        "activation": "sigmoid",
        "cost": "half_squared_error",
        "preprocessing": {"target_scaling": "min_max"},
        "solver": {"name": name, "epochs": epochs, "tolerance": 0.0, **solver},
        "early_stopping": None,
    }


SPECS: Mapping[str, Json] = MappingProxyType(
    {
        "adam": counted("adam", 300, batch_size=16),
        "momentum": counted("momentum", 400, batch_size=32),
        "gradient_descent": counted("gradient_descent", 3000),
        "nesterov": counted("nesterov", 3000),
    }
)
