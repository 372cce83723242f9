"""Files that are no whole export, or change while they are read, are refused in one line."""

import functools
import gzip
import os
import sqlite3
from pathlib import Path

import pytest

from analyzers import analyze
from collectors import open_trace
from collectors.errors import RefusedError
from tests.nsys_exports import change, recording


def refused(path, tmp_path):
    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 300
    assert path.name in message
    assert str(tmp_path) not in message
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    return message


def test_half_an_export_is_refused_not_called_idle(tmp_path):
    path = change(
        tmp_path / "half.sqlite",
        "CREATE TABLE StringIds (id INTEGER, value TEXT)",
        "CREATE TABLE ENUM_NSYS_EVENT_TYPE (id INTEGER, name TEXT)",
    )
    assert "half an export" in refused(path, tmp_path)


@pytest.mark.parametrize("table", ["SCHED_EVENTS", "GPU_METRICS", "CUDA_GRAPH_NODE_EVENTS"])
def test_an_export_of_one_kind_of_event_is_a_whole_one(tmp_path, table):
    path = change(
        tmp_path / "a.sqlite",
        "CREATE TABLE StringIds (id INTEGER, value TEXT)",
        f"CREATE TABLE {table} (start INTEGER, timestamp INTEGER)",
    )
    assert analyze(open_trace(path, tmp_path / "cache")).verdict.cause == "unknown"


def test_a_cut_off_file_is_refused(tmp_path):
    path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
    path.write_bytes(path.read_bytes()[:-5_000])
    assert "cut off" in refused(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00", b"\x00" * 4_096])
def test_what_is_no_database_is_refused(tmp_path, content):
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    refused(path, tmp_path)


def test_damaged_pages_are_refused(tmp_path):
    path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
    content = bytearray(path.read_bytes())
    content[8_192:12_288] = b"\xff" * 4_096
    path.write_bytes(content)
    assert "cannot be read" in refused(path, tmp_path)


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW CUPTI_ACTIVITY_KIND_MEMCPY AS SELECT 1 AS start, 2 AS end",
        "CREATE TRIGGER t AFTER INSERT ON StringIds BEGIN SELECT 1; END",
        "CREATE TABLE bomb (a INTEGER, b TEXT AS (hex(zeroblob(1000000))))",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
    ],
)
def test_a_database_that_could_run_something_is_refused(tmp_path, trap):
    path = change(recording().write(tmp_path / "a.sqlite"), trap)
    refused(path, tmp_path)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_database_that_is_being_written_is_refused(tmp_path, ending):
    path = recording().write(tmp_path / "a.sqlite")
    path.with_name(path.name + ending).write_bytes(b"unfinished")
    assert "half written" in refused(path, tmp_path)


def test_reading_leaves_nothing_beside_the_file(tmp_path):
    folder = tmp_path / "input"
    folder.mkdir()
    path = recording().write(folder / "a.sqlite")
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA journal_mode=WAL")
    file.close()
    before = path.read_bytes()
    open_trace(path, tmp_path / "cache")
    assert [p.name for p in folder.iterdir()] == ["a.sqlite"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_what_lies_beside_the_target_of_a_link_counts_too(tmp_path, ending):
    (tmp_path / "there").mkdir()
    path = recording().write(tmp_path / "there" / "a.sqlite")
    path.with_name(path.name + ending).write_bytes(b"unfinished")
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    assert "half written" in refused(link, tmp_path)


def replaced_while_read(path, tmp_path, change):
    """Open ``path`` and have ``change`` called in the middle of it."""
    calls = []

    def on_progress(_done, _doing):
        if not calls:
            change()
        calls.append(1)

    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache", on_progress=on_progress)
    assert calls
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    return str(caught.value)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    other = recording(kernels=7).write(tmp_path / "b.sqlite")
    message = replaced_while_read(path, tmp_path, lambda: other.replace(path))
    assert message.startswith("a.sqlite: changed while it was read")
    assert open_trace(path, tmp_path / "cache").count("kernels") == 7


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    times = path.stat()

    def change_back_dated():
        change(path, "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = end + 1")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert "changed while it was read" in replaced_while_read(path, tmp_path, change_back_dated)


def test_a_file_that_vanishes_or_is_cut_while_it_is_read_is_refused(tmp_path):
    for change_it in (Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:8_192])):
        path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
        message = replaced_while_read(path, tmp_path, functools.partial(change_it, path))
        assert "changed while it was read" in message


ODD_FILES = {
    "folder": (Path.mkdir, "a folder, not a recording"),
    "pipe": (os.mkfifo, "a pipe or device"),
    "empty": (Path.touch, "an empty file"),
    "loop": (lambda p: p.symlink_to(p.name), "a link that leads back to itself"),
    "dangling": (lambda p: p.symlink_to("nowhere"), "a link to a file that is not there"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x")), "gzip. Unpack it first: gunzip FILE"),
    "zip": (lambda p: p.write_bytes(b"PK\x03\x04rest"), "a zip archive that is cut off or damaged"),
}


@pytest.mark.parametrize(("make", "words"), ODD_FILES.values(), ids=ODD_FILES.keys())
def test_what_cannot_be_a_recording_is_named_with_the_way_out(tmp_path, make, words):
    path = tmp_path / "a.sqlite"
    make(path)
    assert words in refused(path, tmp_path)


def test_names_that_no_file_can_have_are_refused(tmp_path):
    for name, words in (("n" * 300, "too long"), ("a\0b", "no such file"), ("a", "no such file")):
        with pytest.raises(RefusedError, match=words) as caught:
            open_trace(tmp_path / name, tmp_path / "cache")
        assert len(str(caught.value)) < 200
    with pytest.raises(RefusedError, match="no such file"):
        open_trace(Path(__file__) / "a", tmp_path / "cache")


def test_a_long_name_leaves_room_for_the_trouble(tmp_path):
    path = tmp_path / ("n" * 250)
    path.write_bytes(b"no recording")
    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache")
    assert str(caught.value).startswith("n" * 79 + "…: not a recording")


def test_a_name_that_is_not_utf_8_is_shown_with_replacements(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 %20?#.sqlite"))
    path.write_bytes(recording().write(tmp_path / "a.sqlite").read_bytes())
    assert open_trace(path, tmp_path / "cache").source.name == "caf\ufffd %20?#.sqlite"


def test_the_same_content_is_kept_once(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    again = tmp_path / "b.sqlite"
    again.write_bytes(path.read_bytes())
    first, second = (open_trace(p, tmp_path / "cache") for p in (path, again))
    assert first.id == second.id
    assert len([p for p in (tmp_path / "cache").iterdir() if p.name != "tmp"]) == 1


def test_unknown_files_name_the_formats_that_are_known(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "Nsight Systems reports" in refused(path, tmp_path)
