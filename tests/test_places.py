"""Where a reader can open recordings from: watched folders and samples."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from collectors import all_suffixes
from tests.view_fakes import draw, library, words
from views.components.upload import HTML as UPLOAD
from views.shared import access, jobs, places
from views.shared.access import Role


def test_a_watched_folder_lists_recordings_newest_first(tmp_path):
    for age, name in enumerate(["new.sqlite", "old.nsys-rep", "note.txt", ".hidden/x.sqlite"]):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 10)
        import os

        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    found = places.recordings(tmp_path)
    assert [p.relative_name for p in found] == ["new.sqlite", "old.nsys-rep"]
    assert found[0].size_bytes == 10


def test_a_server_others_can_reach_opens_watched_folders_only(tmp_path, monkeypatch):
    inside, outside = tmp_path / "in" / "a.sqlite", tmp_path / "b.sqlite"
    for file in (inside, outside):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    link = tmp_path / "in" / "link.sqlite"
    link.symlink_to(outside)
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path / "in"))
    assert places.openable(inside, anywhere=False) == inside
    assert places.openable(outside, anywhere=True) == outside
    for refused in (outside, link, tmp_path / "in" / ".." / "b.sqlite", tmp_path / "in" / "no"):
        with pytest.raises(places.RefusedError, match="watched folders"):
            places.openable(refused, anywhere=False)
    listed = places.recordings(tmp_path / "in", anywhere=False)
    assert [f.relative_name for f in listed] == ["a.sqlite"]  # not even the size of the other


def test_an_empty_watched_folder_names_every_ending_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path / "in"))
    (tmp_path / "in").mkdir()
    with library(tmp_path / "data"):
        said = words(draw("open")).replace("\\", "")
    for ending in (".csv", ".json", ".json.gz", ".ncu-rep", ".nsys-rep", ".qdrep", ".zip"):
        assert f"{ending}," in said or f"{ending})" in said
    assert " ".join(all_suffixes()) in UPLOAD  # the field for uploads lists the same
    assert 'accept=".csv,.db,.gz,.json,.ncu-rep,.nsys-rep,.qdrep,.sqlite,.zip"' in UPLOAD


def test_a_link_inside_of_the_watched_folders_is_followed_once(tmp_path, monkeypatch):
    file, link = tmp_path / "a.sqlite", tmp_path / "latest.sqlite"
    file.write_bytes(b"x")
    link.symlink_to(file)
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path))
    assert places.openable(link, anywhere=False) == file
    assert places.openable(link, anywhere=True) == link


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        (None, "Only editors"),
        (Role.VIEWER, "Only editors"),
        (Role.EDITOR, "watched folders"),
        (Role.OWNER, None),
    ],
)
def test_every_opening_asks_what_the_reader_may_do(tmp_path, monkeypatch, role, refused):
    file = tmp_path / "a.sqlite"
    file.write_bytes(b"x")
    monkeypatch.delenv("WHYSLOW_TRACE_ROOTS", raising=False)
    for module in (access, jobs):
        monkeypatch.setattr(module, "role", lambda: role)
    if refused is None:
        assert jobs.checked_path(file) == file
        return
    with pytest.raises(places.RefusedError, match=refused):
        jobs.checked_path(file)


def test_a_folder_is_not_a_recording(tmp_path):
    with pytest.raises(places.RefusedError, match="a folder, not a recording"):
        places.openable(tmp_path, anywhere=True)


def test_every_sample_is_described():
    shown = {p.relative_name for p in places.recordings(places.SAMPLES)}
    assert shown <= set(places.sample_words())


def test_a_recording_in_an_archive_lies_where_the_archive_does(tmp_path, monkeypatch):
    inside, outside = tmp_path / "in" / "a.zip", tmp_path / "b.zip"
    for file in (inside, outside):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"PK\x03\x04")
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path / "in"))
    assert places.openable(inside / "x" / "a.json", anywhere=False) == inside / "x" / "a.json"
    for refused in (outside / "a.json", inside / ".." / ".." / "b.zip"):
        with pytest.raises(places.RefusedError, match="watched folders"):
            places.openable(refused, anywhere=False)


def test_a_home_of_nobody_is_a_path_like_any_other(monkeypatch):
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", "~nosuchuser/runs")
    assert places.roots() == [Path("~nosuchuser/runs")]
    assert places.typed_path(" '~nosuchuser/x.json' ") == Path("~nosuchuser/x.json")
    assert places.typed_path("~/x.json") == Path.home() / "x.json"
    with pytest.raises(places.RefusedError, match=r"x\.json: no such file"):
        places.openable(places.typed_path("~nosuchuser/x.json"), anywhere=True)


def test_all_tabs_share_one_look_at_the_watched_folders(tmp_path, monkeypatch):
    clock, looks = [100.0], []
    monkeypatch.setattr(places, "_SHARED_DIGEST", places._SharedDigest())
    monkeypatch.setattr(places, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def look(folders):
        looks.append(folders)
        clock[0] += 1.0  # a slow disk
        return f"digest {len(looks)}"

    monkeypatch.setattr(places, "_digest", look)
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path))
    assert [places.listing_digest() for _ in range(3)] == ["digest 1"] * 3
    clock[0] = 104.99  # made at 101, and it lasts four times as long as it took
    assert places.listing_digest() == "digest 1"
    clock[0] = 105.0
    assert places.listing_digest() == "digest 2"
    clock[0] = 200.0
    with places._SHARED_DIGEST._lock:  # another tab looks, and nobody waits for it
        assert places.listing_digest() == "digest 2"
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path / "other"))
    assert places.listing_digest() == "digest 3"
    assert looks == [(tmp_path,), (tmp_path,), (tmp_path / "other",)]


def test_which_names_are_recordings_is_found_out_once(tmp_path, monkeypatch):
    """Once per file it was: a folder of 15,000 took 11 s, and every tab asks every 3 s."""
    for number in range(50):
        (tmp_path / f"{number}.sqlite").write_bytes(b"x")
    assert len(places.recordings(tmp_path)) == 50
    monkeypatch.setattr("collectors.collectors", None)  # would be asked again
    assert len(places.recordings(tmp_path)) == 50
