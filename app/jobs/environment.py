"""What the bits of a trained layer depend on, beside its data and its spec."""

import platform
from functools import cache
from typing import Any

import numpy
import scipy
from threadpoolctl import threadpool_info

# A second thread adds up in another order, and is no gain on a busy machine.
BLAS_THREADS = 1


@cache
def environment() -> dict[str, Any]:
    """The libraries that compute in this process; numpy and scipy may each bring a BLAS."""
    libraries = {
        tuple(info.get(name) for name in ("internal_api", "version", "architecture"))
        for info in threadpool_info()
        if info["user_api"] == "blas"
    }
    return {
        "blas_threads": BLAS_THREADS,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "blas": [
            {"name": name, "version": version, "architecture": architecture}
            for name, version, architecture in sorted(libraries, key=str)
        ],
        "machine": platform.machine(),
    }
