import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.numeric import preprocessing_json
from app.numeric.errors import NumericError
from app.numeric.preprocessing import (
    MISSING_POLICIES,
    CategoricalInput,
    NumericInput,
    Preprocessing,
)
from app.numeric.scaling import SCALINGS
from tests.numeric.tables import fit_table, table

# As models were stored before inputs could have missing cells.
STORED = """
{"inputs": [
    {"kind": "numeric", "name": "age", "mean": 3.1, "scale": 0.30000000000000004,
     "minimum": 2.5, "maximum": 4, "offset": 3.1},
    {"kind": "categorical", "name": "species", "levels": ["Adelie", "Gentoo"], "most_frequent": 1}
]}
"""


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    scaling=st.sampled_from(sorted(SCALINGS)),
    policy=st.sampled_from(sorted(MISSING_POLICIES)),
    unknown_level=st.sampled_from(["error", "ignore"]),
    exponent=st.integers(-300, 300),
)
def test_json_gives_back_the_same_bits(
    seed: int, scaling: str, policy: str, unknown_level: str, exponent: int
) -> None:
    raw = table(seed, 7, magnitude=10.0**exponent, missing=0.0 if policy == "error" else 0.2)
    learned = fit_table(raw, scaling=scaling, missing=policy, unknown_level=unknown_level)

    stored = json.dumps(preprocessing_json.to_json(learned), allow_nan=False)
    back = preprocessing_json.from_json(json.loads(stored))

    assert back == learned
    assert repr(back) == repr(learned)


def test_what_was_stored_before_there_were_fills_refuses_what_it_refused_then() -> None:
    learned = preprocessing_json.from_json(json.loads(STORED))

    assert learned == Preprocessing(
        (
            NumericInput("age", 3.1, 0.30000000000000004, 2.5, 4.0, 3.1, None, False),
            CategoricalInput("species", ("Adelie", "Gentoo"), 1, None, False, False),
        )
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"inputs": [{"kind": "numeric", "name": "a"}]},
        {"inputs": [{"kind": "b", "name": "a"}]},
        {"inputs": [{"kind": "b"}]},
        {"inputs": ["a"]},
        {"inputs": 3},
    ],
)
def test_what_is_no_preprocessing_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(NumericError):
        preprocessing_json.from_json(value)
