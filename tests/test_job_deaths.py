"""Every way in which a child process can die is one line, and nothing half-made is visible."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from collectors.errors import EnvironmentFailedError, RefusedError, TraceError
from jobs import api
from jobs.limits import Limits
from jobs.progress import MAX_LINE
from library import cache
from tests import scenarios
from tests.job_fakes import eventually, leftovers, processes_about, start_cli

pytestmark = pytest.mark.usefixtures("data_dir")


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
        api.open_recording(recording)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.startswith(("run.sqlite: ", str(data_dir)))
    assert words in text
    assert "\n" not in text
    assert len(text) <= MAX_LINE
    assert leftovers(data_dir) == []


def test_a_defect_keeps_its_log_for_the_report(fake_child, recording, data_dir):
    fake_child("echo Traceback of ours >&2; exit 1")
    with pytest.raises(TraceError) as caught:
        api.open_recording(recording)
    (log,) = (data_dir / "jobs").glob("*/log.txt")
    assert log.read_text() == "Traceback of ours\n"
    assert f"jobs/{log.parent.name}/log.txt" in str(caught.value)


def test_a_child_that_hangs_is_stopped_with_all_it_started(fake_child, recording, tmp_path):
    fake_child(f"trap '' TERM\nsleep 987 &\necho $! > {tmp_path}/helper\nsleep 988")
    began = time.monotonic()
    with pytest.raises(EnvironmentFailedError, match=r"limit of 0\.5 s \(WHYSLOW_LIMIT_WALL_S\)"):
        api.open_recording(recording, limits=Limits(wall_s=0.5))
    assert time.monotonic() - began < 4
    helper = int((tmp_path / "helper").read_text())
    assert eventually(lambda: helper not in processes_about("sleep"))


def test_a_cancelled_job_says_so_and_leaves_nothing(fake_child, recording, data_dir):
    fake_child("sleep 986")
    job = api.begin_opening(recording)
    assert not job.progress().done
    job.cancel()
    assert job.progress().done
    assert job.progress().error == "run.sqlite: cancelled"
    assert leftovers(data_dir) == []
    job.cancel()


@pytest.mark.parametrize("memory_gb", [0.25, 0.45])
def test_too_little_memory_is_named_with_the_limit(memory_gb):
    path = scenarios.scenario("launch", iterations=1_000)
    with pytest.raises(RefusedError) as caught:
        api.open_recording(path, limits=Limits(memory_gb=memory_gb))
    assert f"limit of {memory_gb:g} GB (WHYSLOW_LIMIT_MEMORY_GB)" in str(caught.value)


def test_a_file_that_may_not_grow_is_an_error_of_the_disk(recording, data_dir):
    for file_gb in (3e-6, 1e-6, 1e-9):
        with pytest.raises(EnvironmentFailedError) as caught:
            api.open_recording(recording, limits=Limits(file_gb=file_gb))
        assert "a file on disk reached the size limit of " in str(caught.value)
        assert "(WHYSLOW_LIMIT_FILE_GB)" in str(caught.value)
        assert len(str(caught.value)) < MAX_LINE + len(str(data_dir))
    assert cache.traces() == []
    assert api.open_recording(recording).trace.count("kernels")


@pytest.mark.parametrize("value", ["many", "-1", "0", "nan", "inf", "1e300", "1e10"])
@pytest.mark.parametrize("limit", ["MEMORY_GB", "CPU_S", "FILE_GB", "WALL_S"])
def test_a_limit_that_cannot_be_is_named(monkeypatch, recording, value, limit):
    monkeypatch.setenv(f"WHYSLOW_LIMIT_{limit}", value)
    with pytest.raises(EnvironmentFailedError, match=f"^WHYSLOW_LIMIT_{limit}: not a number"):
        api.open_recording(recording)


def test_limits_as_large_as_they_may_be_work(monkeypatch, recording):
    for limit in ("MEMORY_GB", "CPU_S", "FILE_GB", "WALL_S"):
        monkeypatch.setenv(f"WHYSLOW_LIMIT_{limit}", "1e9")
    assert api.open_recording(recording).trace.count("kernels")


def test_a_byte_of_memory_is_too_little(recording):
    with pytest.raises(RefusedError, match=r"limit of 1e-09 GB \(WHYSLOW_LIMIT_MEMORY_GB\)"):
        api.open_recording(recording, limits=Limits(memory_gb=1e-9))


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_MEMORY_GB", "2.5")
    monkeypatch.setenv("WHYSLOW_LIMIT_WALL_S", "7")
    limits = Limits()
    assert (limits.memory_gb, limits.cpu_s, limits.file_gb, limits.wall_s) == (2.5, 7200, 64, 7)


def test_the_child_gets_no_secrets(fake_child, recording, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    monkeypatch.setenv("WHYSLOW_LIMIT_NSYS_S", "9")
    fake_child(f"env > {tmp_path}/env; exit 1")
    with pytest.raises(TraceError):
        api.open_recording(recording)
    environment = (tmp_path / "env").read_text()
    assert "hidden" not in environment
    assert "WHYSLOW_LIMIT_NSYS_S=9" in environment


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
        api.open_recording(recording)
    helper = int((tmp_path / "helper").read_text())
    assert eventually(lambda: helper not in processes_about("sleep"))


def test_a_child_that_the_system_kills_leaves_no_trace(recording, data_dir):
    job = api.begin_opening(recording)
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
