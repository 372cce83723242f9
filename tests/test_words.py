"""Numbers in sentences read the same everywhere and never read as something else."""

import pytest

from analyzers.words import count_text, function_first, share_text, size_text, time_text


@pytest.mark.parametrize(
    ("value_ns", "shown"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_250, "1.25 µs"),
        (5_000, "5 µs"),
        (9_996, "10.0 µs"),
        (999_400, "999 µs"),
        (999_700, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (17_004_000, "17.0 ms"),
        (-17_004_000, "\N{MINUS SIGN}17.0 ms"),
        (1_234_567_000_000, "1,235 s"),
    ],
)
def test_durations_are_shown_in_their_unit(value_ns, shown):
    assert time_text(value_ns) == shown


def test_a_duration_can_be_shown_more_exactly():
    assert time_text(356_407_983, 9) == "356.407983 ms"


def test_sizes_are_decimal():
    assert size_text(24e9) == "24 GB"
    assert size_text(999_600) == "1.00 MB"


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (0, "0.0 %"),
        (0.001, "< 0.1 %"),
        (9.94, "9.9 %"),
        (9.96, "10 %"),
        (97.4, "97 %"),
        (99.6, "99.6 %"),
        (99.99, "> 99.9 %"),
        (100, "100 %"),
    ],
)
def test_a_share_never_reads_as_nothing_or_all(part, shown):
    assert share_text(part, 100) == shown


def test_counts_take_the_right_plural():
    told = [count_text(2, n) for n in ("launch", "copy", "pass", "wait", "delay")]
    assert told == ["2 launches", "2 copies", "2 passes", "2 waits", "2 delays"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("void at::native::(anonymous namespace)::norm<float>(int)", "norm<float>(int)"),
        ("march_rays(float*)", "march_rays(float*)"),
        ("ncclDevKernel_AllReduce", "ncclDevKernel_AllReduce"),
        ("std::enable_if<a::b>::type f()", "enable_if<a::b>::type f()"),
        ("", ""),
    ],
)
def test_a_function_is_named_without_what_stands_before_it(name, shown):
    assert function_first(name) == shown


@pytest.mark.parametrize(("part", "shown"), [(43.4, "43.4 %"), (99.99, "> 99.9 %"), (0, "0.0 %")])
def test_shares_below_each_other_have_a_decimal_place(part, shown):
    assert share_text(part, 100, exact=True) == shown


def test_a_part_of_nothing_is_nothing():
    assert share_text(0, 0) == "0.0 %"
