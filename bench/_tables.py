"""The tables that are trained on. All are in scikit-learn or drawn here, so that anyone has them.

Every value is one that float32 holds, so that float32 and float64 runs have the same minimum.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import datasets

Array = NDArray[np.float64]


class Table(NamedTuple):
    """x (N, n) and y (N, m), row-major float64; classes are one column each, or one of 0 and 1."""

    x: Array
    y: Array


class Maker(NamedTuple):
    """`make(quick)` gives the table, a smaller one if quick; `about` says what it is."""

    make: Callable[[bool], Table]
    about: str


def _iris(_: bool, *, scaled: bool) -> Table:
    x, codes = datasets.load_iris(return_X_y=True)
    return _table(_standardised(x) if scaled else x, np.eye(3)[codes])


def _digits(_: bool, *, scaled: bool) -> Table:
    x, codes = datasets.load_digits(return_X_y=True)
    return _table(_standardised(x) if scaled else x / 16, np.eye(10)[codes])


def _wide(_: bool) -> Table:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((20_000, 200))
    y = x @ generator.standard_normal(200) + generator.standard_normal(len(x))
    return _table(x, y[:, None])


def _tall(quick: bool, *, correlated: bool, classes: bool) -> Table:
    """30 Gaussian columns; correlated ones have singular values 1 to 30, rotated, then sd 1.

    The target depends on the columns before they are made correlated, so that both kinds are
    equally hard to predict.
    """
    generator = np.random.default_rng(2)
    x = generator.standard_normal((100_000 if quick else 1_000_000, 30))
    signal = x @ generator.standard_normal(30)
    if classes:
        chance = 1 / (1 + np.exp(-signal / 3))
        y = (generator.random(len(x)) < chance).astype(np.float64)
    else:
        y = signal + generator.standard_normal(len(x))
    if correlated:
        rotation = np.linalg.qr(generator.standard_normal((30, 30)))[0]
        x = _standardised((x * np.arange(1, 31)) @ rotation)
    return _table(x, y[:, None])


def _mnist_size(quick: bool) -> Table:
    """Images of 28 x 28 in [0, 1], like MNIST where it matters to a solver.

    Each is a share of one of the three prototypes of its class, a prototype of any class for the
    rest, and noise, all of them smooth. 654 pixels ever light up, 3 in 10 at once; the singular
    values are within a third of those of MNIST down to the 400th; a linear softmax gets about 89 %.
    """
    rows, variants = 6_000 if quick else 60_000, 3
    generator = np.random.default_rng(7)
    prototypes = _smooth(generator, 10 * variants, 2.0)
    radius = np.hypot(*(np.mgrid[:28, :28] - 13.5)).ravel()
    dark = np.argsort(radius, kind="stable")[654:]
    codes = generator.integers(0, 10, rows)
    x = np.empty((rows, 784))
    for first in range(0, rows, 2000):
        kinds = codes[first : first + 2000]
        own = prototypes[kinds * variants + generator.integers(0, variants, len(kinds))]
        other = prototypes[generator.integers(0, len(prototypes), len(kinds))]
        share = generator.uniform(0.5, 1.0, (len(kinds), 1, 1))
        image = share * own + (1 - share) * other + 0.6 * _smooth(generator, len(kinds), 1.2)
        x[first : first + 2000] = np.clip(image - 0.25, 0.0, 1.0).reshape(-1, 784)
    x[:, dark] = 0.0
    return _table(x, np.eye(10)[codes])


def _smooth(generator: np.random.Generator, count: int, blur: float) -> Array:
    """Random images (count, 28, 28), blurred over `blur` pixels, of standard deviation 1."""
    images: Array = ndimage.gaussian_filter(
        generator.standard_normal((count, 28, 28)), (0, blur, blur)
    )
    images /= images.std()
    return images


def _standardised(x: Array) -> Array:
    deviation = x.std(axis=0)
    scaled: Array = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled


def _table(x: Array, y: Array) -> Table:
    return Table(*(np.ascontiguousarray(a.astype(np.float32), dtype=np.float64) for a in (x, y)))


TABLES: Mapping[str, Maker] = MappingProxyType(
    {
        "iris": Maker(partial(_iris, scaled=False), "scikit-learn's, in centimetres"),
        "iris scaled": Maker(partial(_iris, scaled=True), "the same, standardised"),
        "digits": Maker(partial(_digits, scaled=False), "scikit-learn's 8 x 8 digits / 16"),
        "digits scaled": Maker(partial(_digits, scaled=True), "the same, standardised"),
        "wide": Maker(_wide, "Gaussian columns"),
        "tall": Maker(partial(_tall, correlated=False, classes=False), "Gaussian columns"),
        "tall correlated": Maker(
            partial(_tall, correlated=True, classes=False),
            "rotated Gaussian columns, singular values 1 to 30",
        ),
        "tall classes": Maker(
            partial(_tall, correlated=False, classes=True),
            "Gaussian columns, two classes",
        ),
        "tall correlated classes": Maker(
            partial(_tall, correlated=True, classes=True),
            "rotated Gaussian columns, singular values 1 to 30, two classes",
        ),
        "mnist": Maker(_mnist_size, "synthetic images of MNIST's size, sparsity and spectrum"),
    }
)
