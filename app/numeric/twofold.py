"""Sums of products in twice the precision of float64, from float64 operations alone.

The rounding error of a sum or a product is itself a float64 that can be computed. Kept beside the
result it doubles the digits, on every machine alike; a long double is longer on some only.
"""

import numpy as np

from app.numeric.activations import Array

# 2^27 + 1: splits 53 bits into halves. Values above 1e300 overflow, to nan.
SPLITTER = 134217729.0


def sum_of_products(a: Array, b: Array) -> Array:
    """The sum over the last axis of a b, rounded as if computed in twice the precision.

    Source: Ogita, Rump and Oishi 2005, Dot2, with sums in pairs; products by Dekker 1971.
    """
    total = a * b
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    rest = a_low * b_low - (((total - a_high * b_high) - a_low * b_high) - a_high * b_low)
    error = rest.sum(axis=-1)
    while total.shape[-1] > 1:
        if total.shape[-1] % 2:
            total = np.concatenate((total, np.zeros((*total.shape[:-1], 1))), axis=-1)
        left, right = total[..., ::2], total[..., 1::2]
        total = left + right
        virtual = total - left
        error += ((left - (total - virtual)) + (right - virtual)).sum(axis=-1)
    result: Array = total[..., 0] + error
    return result


def _upper_half(values: Array) -> Array:
    """The upper 26 bits of float64 values; the rest of each fits 26 bits too (Veltkamp 1968)."""
    shifted = SPLITTER * values
    result: Array = shifted - (shifted - values)
    return result
