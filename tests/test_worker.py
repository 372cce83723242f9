"""The child process: every way to die is one line, and nothing half-made is ever visible."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jobs.job as worker
from analyzers.facts.facts import WindowError
from collectors import open_trace
from collectors.errors import DamagedError, EnvironmentFailedError, RefusedError, TraceError
from exports import tables as export_tables
from library import analyses, cache
from tests import scenarios
from timeline import store
from timeline.places import has_timeline

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(folder))
    return folder


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "run.sqlite"
    path.write_bytes(scenarios.sync().read_bytes())
    return path


@pytest.fixture
def fake_child(tmp_path, monkeypatch):
    """Let a shell script play the child; ``$1`` is the job's folder."""

    def install(script):
        path = tmp_path / "child.sh"
        path.write_text(script + "\n")
        monkeypatch.setattr(worker, "_COMMAND", ("/bin/sh", str(path)))

    return install


def leftovers(data_dir):
    jobs = [p for p in (data_dir / "jobs").glob("*") if not (p / "defect").exists()]
    return jobs + list((data_dir / "cache" / "tmp").glob("*"))


def processes_about(text):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if text in command and state != "Z" and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def eventually(condition, seconds=5.0, every=0.02):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return False


def test_a_recording_is_read_and_analysed_in_a_child(recording, data_dir):
    before = recording.read_bytes()
    seen = []
    opened = worker.open_recording(recording, on_progress=seen.append)
    assert opened.trace.source.name == "run.sqlite"
    assert opened.stored.report.devices
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert not any(p.done for p in seen)
    assert recording.read_bytes() == before
    assert sorted(p.name for p in recording.parent.iterdir()) == ["data", "run.sqlite"]
    assert leftovers(data_dir) == []


def test_a_further_window_needs_the_library_only(recording, data_dir):
    opened = worker.open_recording(recording)
    window = opened.stored.report.window
    recording.unlink()
    middle = (window.start_ns + window.end_ns) // 2
    stored = worker.analyse(opened.trace, f"span:{window.start_ns}-{middle}")
    assert stored.report.window.end_ns == middle
    assert stored.name == "run.sqlite"
    assert leftovers(data_dir) == []
    with pytest.raises(WindowError):
        worker.analyse(opened.trace, "nvtx:nothing is called this")


def test_a_defect_in_the_timeline_costs_no_answer(recording, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(store, "write_recording", broken)
    monkeypatch.setattr(store, "write_window", broken)
    cache.cache_root().mkdir(parents=True)
    trace = open_trace(recording, cache.cache_root())
    stored = worker._analyse(trace, "", "", lambda *_: None)
    assert stored.report.devices
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not has_timeline(stored)


def test_a_timeline_of_an_older_version_is_made_by_the_child(recording):
    opened = worker.open_recording(recording)
    shutil.rmtree(opened.trace.folder / "timeline")
    assert not has_timeline(opened.stored)
    again = worker.open_recording(recording)
    assert again.stored.folder == opened.stored.folder
    assert has_timeline(again.stored)


def test_who_only_asks_for_the_answer_does_not_wait_for_the_timeline(recording):
    stored = worker.start(recording, timeline=False).wait()
    assert not has_timeline(stored)
    opened = worker.open_recording(recording)
    assert opened.stored.folder == stored.folder
    assert has_timeline(opened.stored)


def test_a_further_window_of_a_damaged_recording_is_one_line(recording):
    opened = worker.open_recording(recording)
    table = opened.trace.folder / "kernels.parquet"
    table.write_bytes(table.read_bytes()[::-1])
    with pytest.raises(TraceError, match=r"damaged"):
        worker.analyse(opened.trace, "span:0-1000")


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
        worker.open_recording(path)
    with pytest.raises(RefusedError, match="too long"):
        worker.open_recording(tmp_path / ("n" * 300))


def test_the_report_names_the_file_that_was_opened(recording):
    worker.open_recording(recording)
    again = recording.with_name("again.sqlite")
    again.write_bytes(recording.read_bytes())
    for _ in range(2):
        for path in (again, recording):
            opened = worker.open_recording(path)
            assert opened.trace.source.name == path.name
            assert opened.stored.report.source["name"] == path.name
            assert json.loads(opened.stored.report_text())["source"]["name"] == path.name


def test_a_file_replaced_while_it_is_read_poisons_nothing(recording, fake_child, tmp_path):
    other = tmp_path / "other.sqlite"
    other.write_bytes(scenarios.scenario("launch").read_bytes())
    golden = worker.open_recording(other).stored.report.totals
    original = recording.read_bytes()
    command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['worker', sys.argv[1]]"
    script = (
        f"{command}; import os, jobs.job as worker; from collectors.nsys.ingest import NsysIngest\n"
        "begin = NsysIngest.finish\n"
        f"def late(job): os.replace({str(other)!r}, {str(recording)!r}); begin(job)\n"
        "NsysIngest.finish = late; sys.exit(worker.main())"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_COMMAND", (sys.executable, "-c", script))
        with pytest.raises(RefusedError, match=r"^run\.sqlite: changed while it was read"):
            worker.open_recording(recording)
    assert worker.open_recording(recording).stored.report.totals == golden
    recording.write_bytes(original)
    assert worker.open_recording(recording).stored.report.totals != golden


def test_a_cached_recording_needs_no_child(recording, monkeypatch):
    first = worker.open_recording(recording)
    monkeypatch.setattr(worker, "_COMMAND", ("/nonexistent",))
    assert worker.open_recording(recording) == first
    job = worker.start(recording)
    assert job.progress() == worker.Progress(
        fraction=1.0, stage="ready", done=True, trace_id=first.trace.id
    )


def test_another_window_is_analysed_without_reading_the_file_again(recording, monkeypatch):
    opened = worker.open_recording(recording)
    window = opened.stored.report.window
    middle = (window.start_ns + window.end_ns) // 2
    text = f"span:{window.start_ns}-{middle}"
    written = (opened.trace.folder / "manifest.json").stat().st_mtime_ns
    half = worker.open_recording(recording, window=text)
    assert half.stored.report.window.duration_ns == middle - window.start_ns
    assert (half.trace.folder / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(WindowError) as caught:
        worker.open_recording(recording, window="nvtx:nobody\nwrote this#7")
    assert "\n" not in str(caught.value)


def test_a_refusal_comes_back_as_the_same_class_with_its_line(tmp_path, data_dir):
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"no recording" * 100)
    with pytest.raises(RefusedError, match=r"^junk\.sqlite: "):
        worker.open_recording(junk)
    with pytest.raises(RefusedError, match=r"^nothing\.sqlite: no such file"):
        worker.open_recording(tmp_path / "nothing.sqlite")
    assert leftovers(data_dir) == []
    assert cache.traces() == []


DEATHS = [
    ("kill -SEGV $$", TraceError, "the reader crashed (SIGSEGV) without an answer"),
    ("kill -ABRT $$", TraceError, "the reader crashed (SIGABRT) without an answer"),
    ("kill -KILL $$", EnvironmentFailedError, "the system stopped the reader, probably for lack"),
    ("kill -XCPU $$", EnvironmentFailedError, "limit of 7200 s (WHYSLOW_LIMIT_CPU_S)"),
    ("exit 77", TraceError, "stopped (exit status 77) without an answer"),
    ("exit 0", TraceError, "stopped (exit status 0) without an answer"),
    ("exit 86", RefusedError, "limit of 8 GB (WHYSLOW_LIMIT_MEMORY_GB)"),
    ("exit 87", EnvironmentFailedError, "no disk space left"),
    ("exit 88", EnvironmentFailedError, "size limit of 64 GB (WHYSLOW_LIMIT_FILE_GB)"),
    (
        "echo \"after throwing an instance of 'std::bad_alloc'\" >&2; kill -ABRT $$",
        RefusedError,
        "needs more memory than the limit of 8 GB",
    ),
    ('printf "{{{" > $1/result.json', TraceError, "without an answer"),
    ('printf "[]" > $1/result.json', TraceError, "without an answer"),
    ('printf "5" > $1/result.json', TraceError, "without an answer"),
    ('printf "{\\"trace\\": 5}" > $1/result.json', TraceError, "without an answer"),
    ('printf "{\\"error\\": \\"X\\"}" > $1/result.json', TraceError, "without an answer"),
]


@pytest.mark.parametrize(("script", "error", "words"), DEATHS, ids=[d[0][:24] for d in DEATHS])
def test_each_way_to_die_is_one_line(fake_child, recording, data_dir, script, error, words):
    fake_child(script)
    with pytest.raises(TraceError) as caught:
        worker.open_recording(recording)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.startswith(("run.sqlite: ", str(data_dir)))
    assert words in text
    assert "\n" not in text
    assert len(text) <= worker.MAX_LINE
    assert leftovers(data_dir) == []


def test_a_defect_keeps_its_log_for_the_report(fake_child, recording, data_dir):
    fake_child("echo Traceback of ours >&2; exit 1")
    with pytest.raises(TraceError) as caught:
        worker.open_recording(recording)
    (log,) = (data_dir / "jobs").glob("*/log.txt")
    assert log.read_text() == "Traceback of ours\n"
    assert f"jobs/{log.parent.name}/log.txt" in str(caught.value)


def test_a_child_that_hangs_is_stopped_with_all_it_started(fake_child, recording, tmp_path):
    fake_child(f"trap '' TERM\nsleep 987 &\necho $! > {tmp_path}/helper\nsleep 988")
    began = time.monotonic()
    with pytest.raises(EnvironmentFailedError, match=r"limit of 0\.5 s \(WHYSLOW_LIMIT_WALL_S\)"):
        worker.open_recording(recording, limits=worker.Limits(wall_s=0.5))
    assert time.monotonic() - began < 4
    helper = int((tmp_path / "helper").read_text())
    assert eventually(lambda: helper not in processes_about("sleep"))


def test_a_cancelled_job_says_so_and_leaves_nothing(fake_child, recording, data_dir):
    fake_child("sleep 986")
    job = worker.start(recording)
    assert not job.progress().done
    job.cancel()
    assert job.progress().done
    assert job.progress().error == "run.sqlite: cancelled"
    assert leftovers(data_dir) == []
    job.cancel()


def test_progress_is_what_the_child_wrote_last_and_garbage_is_ignored(fake_child, recording):
    fake_child(
        'printf "{\\"fraction\\": 0.5, \\"stage\\": \\"half\\"}" > $1/progress.json; sleep 1;'
        'printf "{" > $1/progress.json; sleep 10'
    )
    job = worker.start(recording)
    assert eventually(lambda: job.progress().fraction == 0.5)
    assert job.progress().stage == "half"
    said = cache.jobs_root() / job.id / "progress.json"
    assert eventually(lambda: said.read_text() == "{")
    assert job.progress().stage == "half"
    job.cancel()


@pytest.mark.parametrize("memory_gb", [0.25, 0.45])
def test_too_little_memory_is_named_with_the_limit(memory_gb):
    path = scenarios.scenario("launch", iterations=1_000)
    with pytest.raises(RefusedError) as caught:
        worker.open_recording(path, limits=worker.Limits(memory_gb=memory_gb))
    assert f"limit of {memory_gb:g} GB (WHYSLOW_LIMIT_MEMORY_GB)" in str(caught.value)


def test_a_file_that_may_not_grow_is_an_error_of_the_disk(recording, data_dir):
    for file_gb in (3e-6, 1e-6, 1e-9):
        with pytest.raises(EnvironmentFailedError) as caught:
            worker.open_recording(recording, limits=worker.Limits(file_gb=file_gb))
        assert "a file on disk reached the size limit of " in str(caught.value)
        assert "(WHYSLOW_LIMIT_FILE_GB)" in str(caught.value)
        assert len(str(caught.value)) < worker.MAX_LINE + len(str(data_dir))
    assert cache.traces() == []
    assert worker.open_recording(recording).trace.count("kernels")


@pytest.mark.parametrize("value", ["many", "-1", "0", "nan", "inf", "1e300", "1e10"])
@pytest.mark.parametrize("limit", ["MEMORY_GB", "CPU_S", "FILE_GB", "WALL_S"])
def test_a_limit_that_cannot_be_is_named(monkeypatch, recording, value, limit):
    monkeypatch.setenv(f"WHYSLOW_LIMIT_{limit}", value)
    with pytest.raises(EnvironmentFailedError, match=f"^WHYSLOW_LIMIT_{limit}: not a number"):
        worker.open_recording(recording)


def test_limits_as_large_as_they_may_be_work(monkeypatch, recording):
    for limit in ("MEMORY_GB", "CPU_S", "FILE_GB", "WALL_S"):
        monkeypatch.setenv(f"WHYSLOW_LIMIT_{limit}", "1e9")
    assert worker.open_recording(recording).trace.count("kernels")


def test_a_byte_of_memory_is_too_little(recording):
    with pytest.raises(RefusedError, match=r"limit of 1e-09 GB \(WHYSLOW_LIMIT_MEMORY_GB\)"):
        worker.open_recording(recording, limits=worker.Limits(memory_gb=1e-9))


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_MEMORY_GB", "2.5")
    monkeypatch.setenv("WHYSLOW_LIMIT_WALL_S", "7")
    limits = worker.Limits()
    assert (limits.memory_gb, limits.cpu_s, limits.file_gb, limits.wall_s) == (2.5, 7200, 64, 7)


def test_the_child_gets_no_secrets(fake_child, recording, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    monkeypatch.setenv("WHYSLOW_LIMIT_NSYS_S", "9")
    fake_child(f"env > {tmp_path}/env; exit 1")
    with pytest.raises(TraceError):
        worker.open_recording(recording)
    environment = (tmp_path / "env").read_text()
    assert "hidden" not in environment
    assert "WHYSLOW_LIMIT_NSYS_S=9" in environment


def test_the_same_file_opened_by_many_at_once_is_read_once(recording, data_dir):
    opened, errors = [], []

    def open_it():
        try:
            opened.append(worker.open_recording(recording))
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
    opened = worker.open_recording(recording)
    golden = opened.stored.report
    for table in ("kernels", "api_calls"):
        file = opened.trace.folder / f"{table}.parquet"
        content = bytearray(file.read_bytes())
        for place in range(40, 400, 40):
            content[place] ^= 0xFF
        file.write_bytes(content)
        for kept in (opened.trace.folder / "analysis").iterdir():
            (kept / "report.json").unlink()
        assert worker.open_recording(recording).stored.report == golden


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
        return [p.read_bytes() for p in export_tables.export_csv(*vars(opened).values(), folder)]

    calls = []
    golden = worker.use_recording(recording, tables)
    assert len(calls) == 1
    (folder,) = (f for f in cache.cache_root().iterdir() if f.name != "tmp")
    if table == "gone":
        (folder / "kernels.parquet").unlink()
        (folder / "kernels.parquet").write_bytes(b"")
        calls.pop()
    else:
        (file,) = folder.glob(f"{table}.parquet")
        flip(file, at)
    assert worker.use_recording(recording, tables) == golden
    assert len(calls) == (1 if table == "gone" else 3)


def test_damage_is_said_once_and_healed_by_the_next_look(recording):
    opened = worker.open_recording(recording)
    flip(opened.trace.folder / "kernels.parquet", 8)
    with pytest.raises(DamagedError, match=r"^run\.sqlite: its cached copy is damaged \(kernels\)"):
        opened.trace.arrow("kernels")
    assert cache.find_folder(recording) is None
    again = worker.open_recording(recording)
    assert again.trace.arrow("kernels").num_rows == opened.trace.count("kernels")


def test_what_a_user_does_wrong_with_the_result_is_no_damage(recording):
    def full_disk(_opened):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        worker.use_recording(recording, full_disk)
    assert cache.find_folder(recording) is not None


def test_a_trace_cut_short_is_made_again(recording):
    opened = worker.open_recording(recording)
    golden = opened.stored.report
    file = opened.trace.folder / "kernels.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    again = worker.open_recording(recording)
    assert again.stored.report == golden
    assert again.trace.arrow("kernels").num_rows == opened.trace.count("kernels")


def start_cli(path, data_dir, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "diagnose", "--json", str(path)],
        env={**os.environ, cache.DATA_DIR_VARIABLE: str(data_dir), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


MOMENTS = {
    "asked": "jobs/*/order.json",
    "begun": "cache/tmp/*",
    "reading": "cache/tmp/*/*.parquet",
    "published": "cache/*/manifest.json",
    "storing": "cache/*/analysis/.*",
}


@pytest.mark.parametrize("sign", MOMENTS.values(), ids=MOMENTS.keys())
def test_killed_at_any_moment_no_half_trace_is_visible_and_the_next_try_succeeds(
    tmp_path, data_dir, sign
):
    path = scenarios.scenario("launch", iterations=200)
    golden = json.loads(start_cli(path, tmp_path / "clean").communicate()[0])
    process = start_cli(path, data_dir)
    assert eventually(lambda: any(data_dir.glob(sign)), 20, every=0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert eventually(lambda: not processes_about(str(data_dir)))
    for trace in cache.traces():
        assert trace.arrow("kernels").num_rows == trace.count("kernels") > 0
    assert json.loads(start_cli(path, data_dir).communicate()[0]) == golden
    cache.sweep()
    assert leftovers(data_dir) == []
    (trace,) = cache.traces()
    assert [p.name for p in (data_dir / "cache").iterdir() if p.name != "tmp"] == [trace.id]
    assert len(list((trace.folder / "analysis").iterdir())) == 1


def test_when_we_are_killed_the_programs_that_the_child_started_end_too(
    tmp_path, data_dir, monkeypatch
):
    nsys = tmp_path / "bin" / "nsys"
    nsys.parent.mkdir()
    nsys.write_text("#!/bin/sh\nexec sleep 985.4321\n")
    nsys.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nsys.parent}:/usr/bin:/bin")
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(b"NVIDIA Tegra Profiler Report")
    process = start_cli(report, data_dir)
    assert eventually(lambda: processes_about("985.4321"))
    process.kill()
    process.communicate()
    assert eventually(lambda: not processes_about("985.4321"))
    assert eventually(lambda: not processes_about(str(data_dir)))


def test_a_killed_child_takes_what_left_its_session_along(recording, fake_child, tmp_path):
    fake_child(
        f"setsid sh -c 'echo $$ > {tmp_path}/helper; exec sleep 1000' & sleep 0.3; kill -KILL $$"
    )
    with pytest.raises(EnvironmentFailedError, match="the system stopped the reader"):
        worker.open_recording(recording)
    helper = int((tmp_path / "helper").read_text())
    assert eventually(lambda: helper not in processes_about("sleep"))


def test_a_child_that_the_system_kills_leaves_no_trace(recording, data_dir):
    job = worker.start(recording)
    assert eventually(lambda: processes_about(str(data_dir)))
    for pid in processes_about(str(data_dir)):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailedError, match="the system stopped the reader"):
        job.wait()
    assert cache.traces() == []
    assert leftovers(data_dir) == []


def on_small_disk(tmp_path, options, *commands):
    """Run shell commands with ``$D`` on a small disk that only they can see."""
    disk = tmp_path / "disk"
    disk.mkdir(exist_ok=True)
    script = f"mount -t tmpfs -o {options} tmpfs {disk} && export D={disk} && " + " ; ".join(
        commands
    )
    probe = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs tmpfs {disk}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs user and mount namespaces")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("size", ["4k", "64k", "256k"])
def test_a_full_disk_is_one_line_and_later_succeeds(tmp_path, size):
    path = scenarios.scenario("launch", iterations=100)
    ran = on_small_disk(
        tmp_path,
        f"size={size}",
        f"{sys.executable} -m cli diagnose --data-dir $D {path}",
        "echo exit $?",
        "find $D/cache -maxdepth 1 -name '*-*' 2>/dev/null",
        "mount -o remount,size=64m $D",
        f"{sys.executable} -m cli diagnose --data-dir $D {path} >/dev/null && echo fine",
        "ls $D/cache/tmp $D/jobs",
    )
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    assert "disk" in lines[0].lower() or "space" in lines[0]
    assert str(tmp_path / "disk") in lines[0]
    assert ran.stdout.split()[:3] == ["exit", "3", "fine"]


def test_a_read_only_data_folder_is_one_line_and_what_is_cached_can_be_seen(tmp_path, recording):
    other = scenarios.launch()
    diagnose = f"{sys.executable} -m cli diagnose --data-dir $D"
    ran = on_small_disk(
        tmp_path,
        "size=64m",
        f"{diagnose} {recording} > /dev/null",
        "mount -o remount,ro $D",
        f"{diagnose} {recording} > /dev/null && echo seen",
        f"{diagnose} {other}",
        "echo exit $?",
    )
    assert ran.stdout.split() == ["seen", "exit", "3"]
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    assert "read-only" in lines[0]


def test_a_long_line_with_control_characters_is_made_presentable():
    text = worker.one_line("a\x1b[31mb\n" + "x" * 1000)
    assert text.startswith("a\ufffd[31mb x")
    assert len(text) == worker.MAX_LINE


def test_a_stored_analysis_is_named_by_its_trace(recording):
    opened = worker.open_recording(recording)
    assert opened.stored.trace_id == opened.trace.id
    assert analyses.at(opened.trace.id, opened.stored.folder.name) == opened.stored
