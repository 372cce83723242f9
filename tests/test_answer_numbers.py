"""No number of an answer moves unseen: each is compared with the one that was found right."""

import pytest

from tests.answer_numbers import PARTS, lines, stored

EVERY = [pytest.param(part, title, id=title) for part in PARTS for title in PARTS[part]]
WAY_OUT = "read the first lines of tests/answer_numbers.py"


@pytest.mark.parametrize(("part", "title"), EVERY)
def test_every_number_of_an_answer_is_the_one_that_was_found_right(part, title):
    assert lines(PARTS[part][title]()) == stored(part).get(title), WAY_OUT


@pytest.mark.parametrize("part", PARTS)
def test_no_answer_is_kept_of_what_is_no_longer_asked(part):
    assert list(stored(part)) == list(PARTS[part]), WAY_OUT
