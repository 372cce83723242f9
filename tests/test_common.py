"""Files appear whole or not at all; text is fit to be printed; results are made once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import files, text
from common.memo import memo


def test_a_file_takes_the_place_of_another_and_nothing_is_left_beside_it(tmp_path):
    target = tmp_path / "a.json"
    for content, stored in (("é", "é".encode()), (b"\0", b"\0")):
        files.write_file(target, content, durable=True)
        assert target.read_bytes() == stored
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path):
    target = tmp_path / "a.json"
    files.write_file(target, "old")

    def write_half():
        with files.replacing(target) as draft:
            draft.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_whole_and_an_intact_one_stays(tmp_path):
    target = tmp_path / "above" / "target"

    def fill(content, *, intact):
        with files.replacing_folder(target, lambda _: intact) as draft:
            (draft / "a").write_text(content)
        return (target / "a").read_text()

    assert fill("first", intact=False) == "first"
    assert fill("second", intact=True) == "first"
    assert fill("third", intact=False) == "third"
    assert list(target.parent.iterdir()) == [target]


@given(st.text(alphabet=st.characters(), max_size=40))
def test_text_of_any_kind_becomes_printable(hostile):
    assert text.printable(hostile).isprintable()
    assert text.visible(hostile).isprintable()
    line = text.one_line(hostile, 10)
    assert line.isprintable()
    assert len(line) <= 10
    assert len(text.printable(hostile)) == len(hostile)
    text.storable(hostile).encode()


def test_what_can_be_seen_stays_and_what_acts_is_replaced():
    assert text.printable("aé\x1b[2J\u202e\ud800") == "aé\ufffd[2J\ufffd\ufffd"
    assert text.visible("a\n\x1b\u202e") == "a⏎\\x1b\\u202e"
    assert text.one_line("a\nb\tc", 80) == "a b\ufffdc"
    assert text.short_path("/" + "x" * 200) == "…" + "x" * 119


def test_two_threads_that_ask_at_once_get_one_result_made_once():
    made, begun, go_on = [], threading.Event(), threading.Event()

    @memo()
    def slow(number):
        made.append(number)
        begun.set()
        go_on.wait(10)
        return [number]

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(slow, 7)
        assert begun.wait(10)
        second = threads.submit(slow, 7)
        go_on.set()
        assert first.result(10) is second.result(10)
    assert made == [7]


def test_a_result_that_failed_is_made_anew():
    calls = []

    @memo()
    def fails_once(number):
        calls.append(number)
        if len(calls) == 1:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="3"):
        fails_once(3)
    assert fails_once(3) == 3
    assert calls == [3, 3]


def test_only_the_last_results_are_kept():
    calls = []

    @memo(2)
    def square(number):
        calls.append(number)
        return number * number

    assert [square(n) for n in (1, 2, 3, 3, 2, 1)] == [1, 4, 9, 9, 4, 1]
    assert calls == [1, 2, 3, 1]
