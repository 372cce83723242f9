"""The cache: derived data, noticed when damaged, gone when nobody can find it."""

import ast
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analyzers.analysis import investigate
from collectors import open_trace
from collectors.errors import EnvironmentFailedError, RefusedError
from collectors.trace import Trace
from library import analyses, cache
from tests import scenarios

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("data_dir")


def remembered(path):
    trace = open_trace(path, cache.cache_root())
    cache.remember(path, trace)
    return trace


def record_of(folder):
    (path,) = (folder / "index").glob("*.json")
    return path


def test_the_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path / "chosen"))
    assert cache.data_dir() == tmp_path / "chosen"
    monkeypatch.delenv(cache.DATA_DIR_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.data_dir() == tmp_path / "whyslow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.data_dir() == tmp_path / ".cache" / "whyslow"


def test_a_recording_is_found_again_by_what_it_is_on_disk(recording):
    assert cache.find(recording) is None
    trace = remembered(recording)
    assert cache.find(recording) == trace
    assert cache.find(recording.parent / "." / "run.sqlite") == trace


def test_a_link_finds_the_trace_of_what_it_points_to(recording, tmp_path):
    trace = remembered(recording)
    link = tmp_path / "link.sqlite"
    link.symlink_to(recording)
    assert cache.find(link) == trace


@pytest.mark.parametrize(
    "change", ["touched", "grown", "edited, time set back", "swapped", "deleted", "now a folder"]
)
def test_a_file_that_changed_is_not_found(recording, change):
    remembered(recording)
    if change == "touched":
        os.utime(recording, ns=(1, 1))
    elif change == "edited, time set back":
        status = recording.stat()
        recording.write_bytes(recording.read_bytes())
        os.utime(recording, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "swapped":
        other = recording.with_name("other")
        shutil.copy2(recording, other)
        other.replace(recording)
    elif change == "grown":
        status = recording.stat()
        recording.write_bytes(recording.read_bytes() + b"x")
        os.utime(recording, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        recording.unlink()
    if change == "now a folder":
        recording.mkdir()
    assert cache.find(recording) is None


@pytest.mark.parametrize("name", ["kernels.parquet", cache.MANIFEST])
@pytest.mark.parametrize("damage", ["cut", "emptied", "deleted"])
def test_a_damaged_trace_is_not_found(recording, name, damage):
    file = remembered(recording).folder / name
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-1])
    assert cache.find(recording) is None


def test_one_flipped_digit_in_the_manifest_is_noticed(recording):
    trace = remembered(recording)
    manifest = trace.folder / cache.MANIFEST
    kernels = f'"kernels": {trace.count("kernels")}'
    manifest.write_text(manifest.read_text().replace(kernels, kernels[:-1] + "9", 1))
    assert cache.find(recording) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"trace": 5}', '{"order": 1, "trace": "../../etc"}', "\x00"]
)
def test_a_damaged_record_counts_as_none(data_dir, recording, text):
    remembered(recording)
    record_of(data_dir).write_text(text)
    assert cache.find(recording) is None
    assert cache.traces() == []


@pytest.mark.parametrize(
    "field", ["size", "mtime_ns", "ctime_ns", "inode", "path", "manifest_sha256", "trace"]
)
def test_a_record_with_one_wrong_field_finds_nothing(data_dir, recording, field):
    remembered(recording)
    record = json.loads(record_of(data_dir).read_text())
    record_of(data_dir).write_text(json.dumps({**record, field: "other"}))
    assert cache.find(recording) is None


def test_a_record_says_what_the_file_was_before_it_was_read(recording):
    before = recording.stat()
    trace = open_trace(recording, cache.cache_root())
    recording.write_bytes(recording.read_bytes() + b"x")
    cache.remember(recording, trace, before)
    assert cache.find(recording) is None


def test_one_trace_bears_the_name_under_which_it_was_opened_last(recording, tmp_path):
    first = remembered(recording)
    again = tmp_path / "again.sqlite"
    again.write_bytes(recording.read_bytes())
    assert remembered(again).id == first.id
    assert [t.source.name for t in cache.traces()] == ["again.sqlite"]
    trace = cache.get(first.id)
    assert trace.source.name == "again.sqlite"
    stored = analyses.save(investigate(first), first, "")
    assert stored.report.source["name"] == "run.sqlite"
    renamed = analyses.load(trace)
    assert renamed.report.source["name"] == "again.sqlite"
    assert renamed.report_text() == renamed.report.to_json()


def test_a_file_that_is_opened_again_leads_the_library_and_names_its_trace(recording, tmp_path):
    trace = open_trace(recording, cache.cache_root())
    copy = tmp_path / "copy.sqlite"
    shutil.copy(recording, copy)
    for path in (recording, copy):
        cache.remember(path, trace)
    cache.note_reopening(recording)
    assert [t.source.name for t in cache.traces()] == [recording.name]
    assert cache.get(trace.id).source.name == recording.name
    cache.note_reopening(tmp_path / "unknown.sqlite")
    assert cache.get(trace.id).source.name == recording.name


@pytest.mark.parametrize("name", ["caf\udce9.sqlite", "n" * 300, "a\0b"])
def test_no_name_is_too_odd_to_be_asked_for(recording, name):
    remembered(recording)
    assert cache.find(recording.with_name(name)) is None
    loop = recording.with_name("loop")
    loop.symlink_to(loop)
    assert cache.find(loop) is None


def test_a_newer_definition_of_a_trace_is_asked_for_its_version(data_dir, recording, monkeypatch):
    trace = remembered(recording)
    monkeypatch.setattr(cache, "_reader_fingerprint", lambda: "edited")
    assert cache.find(recording) == trace
    monkeypatch.setattr("collectors.trace.READER_VERSION", 1_000)
    assert cache.find(recording) is None


def test_the_newest_trace_comes_first_whatever_the_clock_says(recording, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)
    first = remembered(recording)
    second = remembered(scenarios.launch())
    assert [t.id for t in cache.traces()] == [second.id, first.id]
    cache.remember(recording, first)
    assert [t.id for t in cache.traces()] == [first.id, second.id]


def test_a_trace_is_got_by_its_id_and_by_no_other_name(recording):
    trace = remembered(recording)
    assert cache.get(trace.id) == trace
    for name in ("", "..", "../index", "/etc", "tmp", ".hidden", "nobody", "a\nb", trace.id + "/."):
        with pytest.raises(RefusedError, match="not in the library"):
            cache.get(name)


def test_getting_a_trace_reads_its_own_record_and_no_other(recording, monkeypatch):
    trace = remembered(recording)
    monkeypatch.setattr(cache, "_records", None)
    assert cache.get(trace.id).source.name == "run.sqlite"


def test_a_trace_without_a_record_of_its_own_is_named_by_the_index(recording, tmp_path):
    again = tmp_path / "again.sqlite"
    again.write_bytes(recording.read_bytes())
    trace = remembered(recording)
    cache.remember(again, trace)
    (trace.folder / cache.LATEST).unlink()  # as an older version left it
    assert cache.get(trace.id).source.name == "again.sqlite"


def test_a_removed_trace_is_gone_and_the_recording_stays(data_dir, recording):
    before = recording.read_bytes()
    trace = remembered(recording)
    cache.remove(trace.id)
    assert cache.find(recording) is None
    assert not trace.folder.exists()
    assert list((data_dir / "index").iterdir()) == []
    assert list((data_dir / "cache" / "tmp").iterdir()) == []
    assert recording.read_bytes() == before


@pytest.mark.parametrize("name", ["..", "../..", "", ".", "tmp/..", "/"])
def test_nothing_outside_the_cache_can_be_removed(data_dir, recording, name):
    remembered(recording)
    cache.remove(name)
    assert cache.find(recording) is not None


def test_sweeping_deletes_what_nobody_can_find_and_nothing_else(data_dir, recording):
    trace = remembered(recording)
    for leftover in (
        "cache/tmp/abc",
        "cache/orphan",
        "jobs/killed",
        f"cache/{trace.id}/analysis/.x",
    ):
        (data_dir / leftover).mkdir(parents=True)
    (data_dir / "jobs" / "failed").mkdir()
    (data_dir / "jobs" / "failed" / "defect").touch()
    (data_dir / "index" / "half.json.123").touch()
    cache.sweep()
    assert cache.find(recording) == trace
    assert [p.name for p in (data_dir / "cache").iterdir()] == [trace.id]
    assert [p.name for p in (data_dir / "jobs").iterdir()] == ["failed"]
    assert len(list((data_dir / "index").iterdir())) == 1
    assert list((trace.folder / "analysis").iterdir()) == []


def test_sweeping_waits_for_running_jobs(data_dir):
    with cache.job_running():
        (data_dir / "cache" / "tmp" / "abc").mkdir(parents=True)
        cache.sweep()
        assert (data_dir / "cache" / "tmp" / "abc").is_dir()
    cache.sweep()
    assert not (data_dir / "cache" / "tmp").exists()


def test_only_the_logs_of_the_latest_failures_are_kept(data_dir, monkeypatch):
    monkeypatch.setattr(cache, "KEPT_FAILED_JOBS", 2)
    for number in range(4):
        job = data_dir / "jobs" / str(number)
        job.mkdir(parents=True)
        (job / "defect").touch()
        os.utime(job, ns=(number, number))
    cache.sweep()
    assert sorted(p.name for p in (data_dir / "jobs").iterdir()) == ["2", "3"]


def test_a_data_folder_that_is_a_file_is_named(data_dir, recording):
    data_dir.write_text("not a folder")
    with pytest.raises(EnvironmentFailedError, match="data: not a folder"), cache.job_running():
        pass
    assert cache.find(recording) is None
    cache.sweep()


def test_a_full_disk_is_named_with_the_folder(data_dir):
    with pytest.raises(EnvironmentFailedError) as caught, cache.writing():
        raise OSError(28, "No space left on device")
    assert str(data_dir) in str(caught.value)
    assert "no disk space left" in str(caught.value)


def test_other_errors_are_not_blamed_on_the_disk():
    with pytest.raises(ConnectionResetError), cache.writing():
        raise ConnectionResetError(104, "reset")


def test_a_stored_analysis_says_what_was_saved(recording):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    assert analyses.load(trace) is None
    analysis = investigate(trace)
    stored = analyses.save(analysis, trace, "")
    assert analyses.load(trace) == stored
    assert stored.report == analysis.report
    assert stored.report_text() == analysis.report.to_json()
    assert stored.segments().equals(analysis.ledger.segments)
    launches = stored.launches()
    assert launches["start_ns"].to_numpy().tolist() == analysis.facts.launches["start_ns"].to_list()
    kernels = trace.frame("kernels")
    mine = launches[launches["kind"] <= 1].sort_values(["start_ns", "end_ns"])
    theirs = kernels.sort_values(["start_ns", "end_ns"])
    assert mine["process_key"].to_list() == theirs["process"].to_list()
    for column in ("stream", "name_id", "short_name_id", "grid_x", "block_x"):
        assert mine[column].to_list() == theirs[column].to_list()
    called = launches[launches["api_row"] >= 0]
    calls = trace.frame("api_calls").iloc[called["api_row"]]
    assert called["api_start_ns"].to_list() == calls["start_ns"].to_list()
    assert called["thread_key"].to_list() == calls["thread"].to_list()
    copies = launches[launches["kind"] == 2]
    assert sorted(copies["bytes"]) == sorted(trace.frame("copies")["bytes"])
    assert (launches.loc[launches["kind"] != 2, "copy_kind"] == -1).all()


def test_each_window_and_each_version_of_the_analyzers_is_stored_apart(recording, monkeypatch):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    analyses.save(investigate(trace), trace, "")
    assert analyses.load(trace, "iteration:1") is None
    monkeypatch.setattr(analyses, "analyzer_version", lambda: "another")
    assert analyses.load(trace) is None


def test_old_windows_are_forgotten_but_never_the_whole_recording(recording, monkeypatch):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    monkeypatch.setattr(analyses, "MAX_KEPT", 2)
    analysis = investigate(trace)
    for number, window in enumerate(["", "a", "b", "c", "d"]):
        stored = analyses.save(analysis, trace, window)
        os.utime(stored.folder, ns=(number, number))
    kept = [w for w in ("", "a", "b", "c", "d") if analyses.load(trace, w)]
    assert kept == ["", "b", "c", "d"]


@pytest.mark.parametrize("name", ["report.json", "segments.parquet", "manifest.json"])
def test_a_damaged_analysis_is_made_again(recording, name):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    analysis = investigate(trace)
    stored = analyses.save(analysis, trace, "")
    file = stored.folder / name
    file.write_bytes(file.read_bytes()[:-3])
    assert analyses.load(trace) is None
    assert analyses.save(analysis, trace, "") == analyses.load(trace)


def test_flipped_bytes_in_a_stored_table_are_noticed_and_the_analysis_dropped(recording):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    stored = analyses.save(investigate(trace), trace, "")
    file = stored.folder / "segments.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(EnvironmentFailedError, match="open the recording again"):
        stored.segments()
    assert analyses.load(trace) is None


def test_a_changed_rule_changes_the_version_of_the_analyzers(tmp_path, monkeypatch):
    package = tmp_path / "some_analyzers"
    (package / "rules").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    rule = package / "rules" / "one.py"
    rule.write_text("LIMIT = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = cache.fingerprint("some_analyzers")
    rule.write_text("LIMIT = 2")
    cache.fingerprint.cache_clear()  # as a new process
    assert cache.fingerprint("some_analyzers") != before


def fingerprinted_modules():
    """Return every module that the code names in a call of ``fingerprint``."""
    names = set()
    for folder in sorted(ROOT.glob("*/__init__.py")):
        for path in folder.parent.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if folder.parent.name != "tests" and "fingerprint" in path.read_text(encoding="utf-8"):
                names |= {
                    c.value
                    for call in ast.walk(tree)
                    if isinstance(call, ast.Call) and "fingerprint" in ast.unparse(call.func)
                    for c in map(_constant, call.args)
                    if c is not None
                }
    return sorted(names)


def _constant(node):
    return node if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_a_module_that_does_not_exist_has_no_fingerprint():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        cache.fingerprint("library.no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        cache.fingerprint("no_such_package")


def test_every_fingerprinted_module_is_named_where_the_test_sees_it():
    modules = fingerprinted_modules()
    assert {"analyzers", "collectors.trace"} <= set(modules)
    # What is passed as ``*modules`` would escape the tests below.
    assert "fingerprint(*" not in "".join(
        p.read_text(encoding="utf-8") for p in (ROOT / "library").glob("*.py")
    ).replace("def fingerprint(*", "")


@pytest.mark.parametrize("module", fingerprinted_modules())
def test_a_change_in_any_file_beneath_a_fingerprinted_module_changes_its_digest(
    module, tmp_path, monkeypatch
):
    top = module.partition(".")[0]
    shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    place = tmp_path.joinpath(*module.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    spec = importlib.machinery.ModuleSpec(top, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / top)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    digests = {cache.fingerprint.__wrapped__(module)}
    for file in files:
        with file.open("a", encoding="utf-8") as text:
            text.write("# changed\n")
        digests.add(cache.fingerprint.__wrapped__(module))
    assert len(digests) == len(files) + 1 > 1


def test_looking_a_recording_up_loads_nothing_slow(recording, data_dir):
    from analyzers.analysis import investigate

    trace = remembered(recording)
    analyses.save(investigate(trace), trace, "")
    code = (
        "import sys; from pathlib import Path; from library import analyses, cache\n"
        "folder = cache.find_folder(Path(sys.argv[1]))\n"
        "assert analyses.find(folder).report_text()\n"
        "slow = {'pandas', 'numpy', 'pyarrow', 'analyzers', 'collectors'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(recording)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"


def test_a_trace_survives_being_loaded_by_name(recording):
    trace = remembered(recording)
    assert Trace.load(cache.cache_root() / trace.id) == trace
