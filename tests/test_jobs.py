"""A recording is opened by a child process, once, and what is damaged is read again."""

import errno
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from analyzers.facts.facts import WindowError
from collectors import open_trace
from collectors.errors import DamagedError, RefusedError, TraceError
from exports import tables as export_tables
from jobs import api, processes, steps
from jobs.progress import MAX_LINE, Progress, one_line
from library import analyses, cache
from tests import scenarios
from tests.job_fakes import eventually, leftovers, start_cli
from timeline import store
from timeline.places import has_timeline

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("data_dir")


def test_a_recording_is_read_and_analysed_in_a_child(recording, data_dir):
    before = recording.read_bytes()
    seen = []
    opened = api.open_recording(recording, on_progress=seen.append)
    assert opened.trace.source.name == "run.sqlite"
    assert opened.stored.report.devices
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert not any(p.done for p in seen)
    assert recording.read_bytes() == before
    assert sorted(p.name for p in recording.parent.iterdir()) == ["data", "run.sqlite"]
    assert leftovers(data_dir) == []


def test_a_further_window_needs_the_library_only(recording, data_dir):
    opened = api.open_recording(recording)
    window = opened.stored.report.window
    recording.unlink()
    middle = (window.start_ns + window.end_ns) // 2
    stored = api.analyse(opened.trace, f"span:{window.start_ns}-{middle}")
    assert stored.report.window.end_ns == middle
    assert stored.name == "run.sqlite"
    assert leftovers(data_dir) == []
    with pytest.raises(WindowError):
        api.analyse(opened.trace, "nvtx:nothing is called this")


def test_a_defect_in_the_timeline_costs_no_answer(recording, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(store, "write_recording", broken)
    monkeypatch.setattr(store, "write_window", broken)
    cache.cache_root().mkdir(parents=True)
    trace = open_trace(recording, cache.cache_root())
    stored = steps.analyse(trace, "", "", lambda *_: None, timeline=True)
    assert stored.report.devices
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not has_timeline(stored)


def test_a_timeline_of_an_older_version_is_made_by_the_child(recording):
    opened = api.open_recording(recording)
    shutil.rmtree(opened.trace.folder / "timeline")
    assert not has_timeline(opened.stored)
    again = api.open_recording(recording)
    assert again.stored.folder == opened.stored.folder
    assert has_timeline(again.stored)


def test_who_only_asks_for_the_answer_does_not_wait_for_the_timeline(recording):
    stored = api.stored_analysis(api.begin_opening(recording, timeline=False))
    assert not has_timeline(stored)
    opened = api.open_recording(recording)
    assert opened.stored.folder == stored.folder
    assert has_timeline(opened.stored)


def test_a_further_window_of_a_damaged_recording_is_one_line(recording):
    opened = api.open_recording(recording)
    table = opened.trace.folder / "kernels.parquet"
    table.write_bytes(table.read_bytes()[::-1])
    with pytest.raises(TraceError, match=r"damaged"):
        api.analyse(opened.trace, "span:0-1000")


def test_a_recording_that_may_not_be_read_is_refused_by_its_name(recording, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(RefusedError, match=r"^run\.sqlite: no permission to read it"):
        open_trace(recording, cache.cache_root())


ODD_NAMES = {"not UTF-8": b"caf\xe9 %41.sqlite", "UTF-8": "é\n.sqlite".encode()}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["utf8", "C"])
def test_a_name_of_any_bytes_works_in_any_locale(recording, data_dir, name, locale):
    path = Path(os.fsdecode(os.fsencode(recording.parent) + b"/" + name))
    recording.rename(path)
    for _ in range(2):
        process = start_cli(path, data_dir, **locale)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert json.loads(out)["source"]["name"] == name.decode("utf-8", "replace")
    (record,) = (data_dir / "index").glob("*.json")
    assert json.loads(record.read_text())["order"] == 1


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to(p.name)])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    path = tmp_path / "odd.sqlite"
    make(path)
    with pytest.raises(RefusedError, match=r"^odd\.sqlite: a "):
        api.open_recording(path)
    with pytest.raises(RefusedError, match="too long"):
        api.open_recording(tmp_path / ("n" * 300))


def test_the_report_names_the_file_that_was_opened(recording):
    api.open_recording(recording)
    again = recording.with_name("again.sqlite")
    again.write_bytes(recording.read_bytes())
    for _ in range(2):
        for path in (again, recording):
            opened = api.open_recording(path)
            assert opened.trace.source.name == path.name
            assert opened.stored.report.source["name"] == path.name
            assert json.loads(opened.stored.report_text())["source"]["name"] == path.name


def test_a_file_replaced_while_it_is_read_poisons_nothing(recording, fake_child, tmp_path):
    other = tmp_path / "other.sqlite"
    other.write_bytes(scenarios.scenario("launch").read_bytes())
    golden = api.open_recording(other).stored.report.totals
    original = recording.read_bytes()
    command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['child', sys.argv[1]]"
    script = (
        f"{command}; import os; from jobs import child\n"
        "from collectors.nsys.ingest import NsysIngest\n"
        "begin = NsysIngest.finish\n"
        f"def late(job): os.replace({str(other)!r}, {str(recording)!r}); begin(job)\n"
        "NsysIngest.finish = late; sys.exit(child.main())"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_COMMAND", (sys.executable, "-c", script))
        with pytest.raises(RefusedError, match=r"^run\.sqlite: changed while it was read"):
            api.open_recording(recording)
    assert api.open_recording(recording).stored.report.totals == golden
    recording.write_bytes(original)
    assert api.open_recording(recording).stored.report.totals != golden


def test_a_cached_recording_needs_no_child(recording, monkeypatch):
    first = api.open_recording(recording)
    monkeypatch.setattr(processes, "_COMMAND", ("/nonexistent",))
    assert api.open_recording(recording) == first
    job = api.begin_opening(recording)
    assert job.progress() == Progress(
        fraction=1.0, stage="ready", done=True, trace_id=first.trace.id
    )


def test_another_window_is_analysed_without_reading_the_file_again(recording, monkeypatch):
    opened = api.open_recording(recording)
    window = opened.stored.report.window
    middle = (window.start_ns + window.end_ns) // 2
    text = f"span:{window.start_ns}-{middle}"
    written = (opened.trace.folder / "manifest.json").stat().st_mtime_ns
    half = api.open_recording(recording, window=text)
    assert half.stored.report.window.duration_ns == middle - window.start_ns
    assert (half.trace.folder / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(WindowError) as caught:
        api.open_recording(recording, window="nvtx:nobody\nwrote this#7")
    assert "\n" not in str(caught.value)


def test_a_refusal_comes_back_as_the_same_class_with_its_line(tmp_path, data_dir):
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"no recording" * 100)
    with pytest.raises(RefusedError, match=r"^junk\.sqlite: "):
        api.open_recording(junk)
    with pytest.raises(RefusedError, match=r"^nothing\.sqlite: no such file"):
        api.open_recording(tmp_path / "nothing.sqlite")
    assert leftovers(data_dir) == []
    assert cache.traces() == []


def test_progress_is_what_the_child_wrote_last_and_garbage_is_ignored(fake_child, recording):
    fake_child(
        'printf "{\\"fraction\\": 0.5, \\"stage\\": \\"half\\"}" > $1/progress.json; sleep 1;'
        'printf "{" > $1/progress.json; sleep 10'
    )
    job = api.begin_opening(recording)
    assert eventually(lambda: job.progress().fraction == 0.5)
    assert job.progress().stage == "half"
    said = cache.jobs_root() / job.id / "progress.json"
    assert eventually(lambda: said.read_text() == "{")
    assert job.progress().stage == "half"
    job.cancel()


def test_the_same_file_opened_by_many_at_once_is_read_once(recording, data_dir):
    opened, errors = [], []

    def open_it():
        try:
            opened.append(api.open_recording(recording))
        except Exception as error:  # the test shows whatever it is
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({o.trace.id for o in opened}) == 1
    assert len(cache.traces()) == 1
    assert leftovers(data_dir) == []


def test_flipped_bytes_in_a_cached_table_are_noticed_and_the_file_is_read_again(recording):
    opened = api.open_recording(recording)
    golden = opened.stored.report
    for table in ("kernels", "api_calls"):
        file = opened.trace.folder / f"{table}.parquet"
        content = bytearray(file.read_bytes())
        for place in range(40, 400, 40):
            content[place] ^= 0xFF
        file.write_bytes(content)
        for kept in (opened.trace.folder / "analysis").iterdir():
            (kept / "report.json").unlink()
        assert api.open_recording(recording).stored.report == golden


def flip(path, at):
    content = bytearray(path.read_bytes())
    for place in range(at, at + 8):
        content[place % len(content)] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("at", [8, -6, -40], ids=["page", "length of the footer", "footer"])
@pytest.mark.parametrize(
    "table", ["kernels", "strings", "analysis/*/launches", "analysis/*/kernels", "gone"]
)
def test_whoever_reads_damage_gets_the_recording_read_again(recording, tmp_path, table, at):
    def tables(opened):
        calls.append(opened)
        folder = tmp_path / str(len(calls))
        return [
            p.read_bytes() for p in export_tables.export_csv(opened.trace, opened.stored, folder)
        ]

    calls = []
    golden = api.use_recording(recording, tables)
    assert len(calls) == 1
    (folder,) = (f for f in cache.cache_root().iterdir() if f.name != "tmp")
    if table == "gone":
        (folder / "kernels.parquet").unlink()
        (folder / "kernels.parquet").write_bytes(b"")
        calls.pop()
    else:
        (file,) = folder.glob(f"{table}.parquet")
        flip(file, at)
    assert api.use_recording(recording, tables) == golden
    assert len(calls) == (1 if table == "gone" else 3)


def test_damage_is_said_once_and_healed_by_the_next_look(recording):
    opened = api.open_recording(recording)
    flip(opened.trace.folder / "kernels.parquet", 8)
    with pytest.raises(DamagedError, match=r"^run\.sqlite: its cached copy is damaged \(kernels\)"):
        opened.trace.arrow("kernels")
    assert cache.find_folder(recording) is None
    again = api.open_recording(recording)
    assert again.trace.arrow("kernels").num_rows == opened.trace.count("kernels")


def test_what_a_user_does_wrong_with_the_result_is_no_damage(recording):
    def full_disk(_opened):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        api.use_recording(recording, full_disk)
    assert cache.find_folder(recording) is not None


def test_a_trace_cut_short_is_made_again(recording):
    opened = api.open_recording(recording)
    golden = opened.stored.report
    file = opened.trace.folder / "kernels.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    again = api.open_recording(recording)
    assert again.stored.report == golden
    assert again.trace.arrow("kernels").num_rows == opened.trace.count("kernels")


def test_a_long_line_with_control_characters_is_made_presentable():
    text = one_line("a\x1b[31mb\n" + "x" * 1000)
    assert text.startswith("a\ufffd[31mb x")
    assert len(text) == MAX_LINE


def test_a_stored_analysis_is_named_by_its_trace(recording):
    opened = api.open_recording(recording)
    assert opened.stored.trace_id == opened.trace.id
    assert analyses.at(opened.trace.id, opened.stored.folder.name) == opened.stored
