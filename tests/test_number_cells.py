"""Numbers in the cells of Nsight Compute's pages, one by one: what they are, and what is none."""

import math

import pytest

from collectors.ncu.numbers import NumberMarks, is_impossible, marks, number, scale

ENGLISH, GERMAN = NumberMarks(), NumberMarks(",", ".")


@pytest.mark.parametrize(
    ("cell", "how", "value"),
    [
        ("1,234.5", ENGLISH, 1_234.5),
        ("1.234,5", GERMAN, 1_234.5),
        ("1 234", ENGLISH, 1_234.0),
        ("1\u202f234'567", ENGLISH, 1_234_567.0),
        ("-3", ENGLISH, -3.0),
        ("+.5", ENGLISH, 0.5),
        ("1.5e3", ENGLISH, 1_500.0),
        ("12 (3; 4)", ENGLISH, 12.0),
        ("12 {3; 4}", ENGLISH, 12.0),
        ("7;8", ENGLISH, 7.0),
        ("nan", ENGLISH, math.nan),
        ("-inf", ENGLISH, math.nan),
        ("NaN(ind)", ENGLISH, math.nan),
        ("9" * 400, ENGLISH, math.nan),  # beyond what a number holds
        ("9" * 401, ENGLISH, None),  # no cell has so many characters
        ("1.2.3", ENGLISH, None),
        ("12 cycles", ENGLISH, None),
        ("", ENGLISH, None),
        (".", ENGLISH, None),
        ("0x10", ENGLISH, None),
    ],
)
def test_a_cell_is_the_number_that_a_reader_sees(cell, how, value):
    assert number(cell, how) == (pytest.approx(value, nan_ok=True) if value is not None else None)


@pytest.mark.parametrize(
    ("cells", "how"),
    [
        (["1,234"], ENGLISH),  # either: the tool's own language
        (["1.234"], ENGLISH),
        (["1,23"], GERMAN),
        (["1,2345"], GERMAN),
        (["0,123"], GERMAN),
        ([",123"], GERMAN),
        (["1234,567"], GERMAN),
        (["123,456"], ENGLISH),
        (["1.234.567"], GERMAN),
        (["1,234,567"], ENGLISH),
        (["1.234,567"], GERMAN),
        (["1,234.567"], ENGLISH),
        (["1,5e-3"], GERMAN),
        (["1,5", "2.5"], ENGLISH),  # as many votes for both
        (["1,5", "2,5", "2.5"], GERMAN),
        (["name, of a kernel", "3,x"], ENGLISH),
    ],
)
def test_the_decimal_mark_is_the_one_that_most_cells_prove(cells, how):
    assert marks(cells) == how


@pytest.mark.parametrize(
    ("value", "unit", "answer"),
    [
        (1e6, "%", False),
        (1e6 + 1, "%", True),
        (1e6 + 1, "", False),
        (1e24, "byte", False),
        (1.01e24, "byte", True),
        (-1.01e24, "", True),
        (0.0, "ns", False),
        (-1e-9, "ns", True),
        (-1.0, "", False),
        (math.nan, "%", False),
    ],
)
def test_what_no_launch_has_is_impossible(value, unit, answer):
    assert is_impossible(value, unit) is answer


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("nsecond", 1), ("usecond", 1e3), ("msecond", 1e6), ("second", 1e9)),
        *(("byte", 1), ("Kbyte", 1e3), ("Gbyte", 1e9), ("Tbyte", 1e12)),
        *(("byte/second", 1), ("Gbyte/second", 1e9), ("byte/usecond", 1e6)),
        *(("cycle/nsecond", 1e9), ("Ghz", 1e9), ("%", 1), ("", 1), ("inst/cycle", 1)),
    ],
)
def test_units_are_powers_of_ten_of_base_units(unit, factor):
    assert scale(unit) == pytest.approx(factor)
