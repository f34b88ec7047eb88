from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.numeric.twofold import sum_of_products

# Products of these neither overflow nor lose bits to underflow.
NUMBERS = st.floats(1e-60, 1e60) | st.floats(-1e60, -1e-60) | st.just(0.0)
DOUBLE = 2.0**-53


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40))
def test_sums_of_products_err_as_little_as_with_twice_the_digits(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = np.array(pairs).T

    found = sum_of_products(a, b)

    products = [Fraction(x) * Fraction(y) for x, y in pairs]
    exact, size = sum(products, Fraction()), sum(map(abs, products), Fraction())
    # The bound of Ogita, Rump and Oishi 2005, Proposition 5.5, for Dot2.
    bound = DOUBLE * abs(exact) + (2 * len(pairs) * DOUBLE) ** 2 * size
    assert abs(Fraction(float(found)) - exact) <= bound


def test_sums_run_over_the_last_axis_of_what_is_broadcast() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(3, 1, 7)), random.normal(size=(4, 7))

    np.testing.assert_allclose(sum_of_products(a, b), (a * b).sum(axis=-1), rtol=1e-13)
