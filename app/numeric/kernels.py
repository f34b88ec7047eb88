"""Costs and their slopes in place, feature-major: what a step spends its time on beside products.

Shapes: z and y (m, k), scratch (2, m, k), all of one dtype; weight (k,) or None for 1 each.
A kernel returns the weighted sums of C over the k rows, in float64, one for each output, (m,), or
one in all, (1,), where softmax ties the outputs together; with `slope` it leaves dC/dz, not
weighted, in z. Without, z holds anything.
`composed` does the same from the tables, by plain formulas: it serves the pairs without a row in
KERNELS and is what the tests hold those rows against.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.rows import DataArray

Kernel = Callable[[DataArray, DataArray, DataArray, DataArray | None, bool], Array]

# 1 + exp(-|z|) lies in [1, 2]: a product of so many of them is finite in float32 and float64, and
# one logarithm serves them all. More of them gain nothing.
FACTORS = 64


def kernel_of(activation: str, cost: str) -> Kernel:
    """The quickest kernel that there is for the pair."""
    return KERNELS.get((activation, cost)) or composed(activation, cost)


def composed(activation: str, cost: str) -> Kernel:
    """The kernel that the tables of activations and costs give; it makes temporaries."""
    sigma, row = ACTIVATIONS[activation], COSTS[cost]

    def kernel(
        z: DataArray, y: DataArray, _: DataArray, weight: DataArray | None, slope: bool
    ) -> Array:
        totals = _totals(row.terms(sigma, z.T, y.T).T, weight)
        if slope:
            z[...] = row.delta(sigma, z.T, y.T).T
        return totals

    return kernel


def _totals(terms: DataArray, weight: DataArray | None) -> Array:
    """Sums of the terms (g, k) over rows; pairwise, or by a product in float64."""
    totals: Array
    if weight is None:
        totals = np.add.reduce(terms, axis=1).astype(np.float64)
    else:
        totals = terms.astype(np.float64, copy=False) @ weight.astype(np.float64, copy=False)
    return totals


def _half_squares(residual: DataArray, buffer: DataArray, weight: DataArray | None) -> Array:
    np.multiply(residual, residual, out=buffer)
    totals = _totals(buffer, weight)
    totals *= 0.5
    return totals


def _identity_half_squared_error(
    z: DataArray, y: DataArray, scratch: DataArray, weight: DataArray | None, slope: bool
) -> Array:
    del slope  # the residual is the slope
    np.subtract(z, y, out=z)
    return _half_squares(z, scratch[0], weight)


def _sigmoid_half_squared_error(
    z: DataArray, y: DataArray, scratch: DataArray, weight: DataArray | None, slope: bool
) -> Array:
    residual, buffer = scratch
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1.0
    np.reciprocal(z, out=z)
    np.subtract(z, y, out=residual)
    totals = _half_squares(residual, buffer, weight)
    if slope:
        np.subtract(1.0, z, out=buffer)
        z *= buffer
        z *= residual
    return totals


def _tanh_half_squared_error(
    z: DataArray, y: DataArray, scratch: DataArray, weight: DataArray | None, slope: bool
) -> Array:
    residual, buffer = scratch
    np.tanh(z, out=z)
    np.subtract(z, y, out=residual)
    totals = _half_squares(residual, buffer, weight)
    if slope:
        np.multiply(z, z, out=z)
        np.subtract(1.0, z, out=z)
        z *= residual
    return totals


def _sigmoid_cross_entropy(
    z: DataArray, y: DataArray, scratch: DataArray, weight: DataArray | None, slope: bool
) -> Array:
    """max(z, 0) - y z + log(1 + e) with e = exp(-|z|), which gives the sigmoid too."""
    numerator, buffer = scratch
    np.greater(z, 0.0, out=numerator)
    np.subtract(numerator, y, out=buffer)
    buffer *= z
    totals = _totals(buffer, weight)
    np.abs(z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    if slope:
        # 1 where z > 0, else e, which is at most 1.
        np.maximum(numerator, z, out=numerator)
    if weight is None:
        z += 1.0
        totals += _sum_of_logarithms(z)
    else:
        totals += _totals(np.log1p(z, out=buffer), weight)
        z += 1.0
    if slope:
        np.divide(numerator, z, out=z)
        z -= y
    return totals


def _sum_of_logarithms(factors: DataArray) -> Array:
    """sum log f over the rows for 1 <= f <= 2, with one logarithm for many factors."""
    whole = factors.shape[1] // FACTORS * FACTORS
    groups = factors[:, :whole].reshape(len(factors), FACTORS, -1)
    products = np.multiply.reduce(groups, axis=1)
    totals = np.log(products).sum(axis=1, dtype=np.float64)
    totals += np.log(factors[:, whole:]).sum(axis=1, dtype=np.float64)
    return np.asarray(totals, dtype=np.float64)


def _softmax_cross_entropy(
    z: DataArray, y: DataArray, scratch: DataArray, weight: DataArray | None, slope: bool
) -> Array:
    """sum of y (log sum exp(z) - z), shifted by the maximum; the y of a row sum to 1."""
    row = scratch[0, :1]
    np.maximum.reduce(z, axis=0, out=row, keepdims=True)
    z -= row
    if weight is None:
        linear = float(np.vdot(y, z)) if z.dtype == np.float64 else _dot(y, z, scratch[1])
    else:
        linear = float(_totals(np.multiply(y, z, out=scratch[1]), weight).sum())
    np.exp(z, out=z)
    np.add.reduce(z, axis=0, out=row, keepdims=True)
    if slope:
        z /= row
        z -= y
    np.log(row, out=row)
    return _totals(row, weight) - linear


def _dot(a: DataArray, b: DataArray, buffer: DataArray) -> float:
    """sum of a b; float32 summed by BLAS would drift by 1e-6 within 10,000 terms."""
    return float(_totals(np.multiply(a, b, out=buffer), None).sum())


KERNELS: Mapping[tuple[str, str], Kernel] = MappingProxyType(
    {
        ("identity", "half_squared_error"): _identity_half_squared_error,
        ("sigmoid", "half_squared_error"): _sigmoid_half_squared_error,
        ("tanh", "half_squared_error"): _tanh_half_squared_error,
        ("sigmoid", "cross_entropy"): _sigmoid_cross_entropy,
        ("softmax", "cross_entropy"): _softmax_cross_entropy,
    }
)
