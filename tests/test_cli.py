"""The command line: the answer on stdout, one line on stderr, an exit status to be trusted."""

import csv
import gzip
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

import cli.main as cli
from analyzers.finding import Row
from analyzers.report import Report
from analyzers.words import time_text
from cli import open as open_command
from collectors.errors import EnvironmentFailedError
from jobs import api
from library import cache
from reports.diagnosis import diagnosis_summary
from reports.terminal import terminal_text
from tests import scenarios
from tests.capture_runs import obey_interrupts

ROOT = Path(__file__).parents[1]
REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(autouse=True)
def shared_library(library, monkeypatch):
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(library))


@pytest.fixture
def data_dir(tmp_path, monkeypatch, shared_library):
    """A library of the test's own."""
    folder = tmp_path / "data"
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(folder))
    return folder


def whyslow(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def one_error_line(ran, status):
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert "Traceback" not in line
    return line.removeprefix("whyslow: ")


def test_diagnose_as_json_prints_the_contract_and_nothing_else():
    ran = whyslow("diagnose", scenarios.sync(), "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    answer = json.loads(ran.stdout)
    assert answer["schema"] == 1
    assert answer["verdict"]["cause"] == "sync"
    for device in answer["devices"]:
        assert set(device["ledger"]) == {row.value for row in Row}
        assert sum(device["ledger"].values()) == device["duration_ns"]


def test_diagnose_in_words_begins_with_the_verdict():
    path = scenarios.sync()
    ran = whyslow("diagnose", path)
    answer = json.loads(whyslow("diagnose", path, "--json").stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == answer["verdict"]["sentence"]
    (device,) = answer["devices"]
    assert re.search(
        rf"^  sync +{re.escape(time_text(device['ledger']['sync']))} ", ran.stdout, re.M
    )
    for finding in answer["findings"]:
        assert finding["title"] in ran.stdout
        assert f"Try: {finding['advice']}" in ran.stdout
    for note in answer["quality"]:
        assert f"{note['level']}: {note['message']}" in ran.stdout


def test_a_window_is_answered_for_and_an_unknown_one_is_refused():
    whole = json.loads(whyslow("diagnose", scenarios.sync(), "--json").stdout)["window"]
    middle = (whole["start_ns"] + whole["end_ns"]) // 2
    window = f"span:{whole['start_ns']}-{middle}"
    part = whyslow("diagnose", scenarios.sync(), "--json", "--window", window)
    assert json.loads(part.stdout)["window"]["duration_ns"] == middle - whole["start_ns"]
    ran = whyslow("diagnose", scenarios.sync(), "--window", "iteration:1000000")
    assert one_error_line(ran, 2)


def test_a_file_that_is_no_recording_is_refused_with_status_2(tmp_path):
    junk = tmp_path / "junk\n\x1b[31m.sqlite"
    junk.write_bytes(b"junk")
    assert one_error_line(whyslow("diagnose", junk, "--json"), 2).startswith("junk \ufffd")
    assert one_error_line(whyslow("diagnose", tmp_path / "absent.sqlite"), 2)
    assert one_error_line(whyslow("diagnose", tmp_path), 2)
    assert one_error_line(whyslow("export", junk, "--csv", tmp_path / "out"), 2)
    assert not (tmp_path / "out").exists()
    assert one_error_line(whyslow("open", junk, "--no-browser"), 2)


def test_a_missing_nsys_is_the_environments_fault(tmp_path):
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(b"NVIDIA Tegra Profiler Report")
    empty = {**os.environ, "PATH": str(tmp_path)}
    line = one_error_line(whyslow("diagnose", report, env=empty), 3)
    assert "nsys export --type sqlite --output report.sqlite report.nsys-rep" in line


def test_the_data_folder_can_be_chosen_and_a_bad_one_is_named(tmp_path, data_dir):
    ran = whyslow("diagnose", scenarios.sync(), "--data-dir", tmp_path / "other")
    assert ran.returncode == 0
    assert (tmp_path / "other" / "cache").is_dir()
    assert not data_dir.exists()
    (tmp_path / "file").write_text("")
    line = one_error_line(whyslow("diagnose", scenarios.sync(), "--data-dir", tmp_path / "file"), 3)
    assert line.startswith(f"{tmp_path / 'file'}: ")


def test_a_defect_is_one_line_and_status_70_with_the_traceback_in_a_log(
    monkeypatch, capsys, data_dir
):
    monkeypatch.setattr(api, "begin_opening", lambda *_, **__: 1 / 0)
    assert cli.main(["diagnose", "some.sqlite"]) == 70
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("whyslow: a bug in whyslow (ZeroDivisionError)")
    assert len(output.err.splitlines()) == 1
    (log,) = (data_dir / "jobs").glob("*/log.txt")
    assert "1 / 0" in log.read_text()


def test_a_stored_answer_needs_none_of_the_slow_libraries():
    path = scenarios.sync()
    first = whyslow("diagnose", path)
    code = (
        "import sys; from cli.main import main; status = main(['diagnose', sys.argv[1]])\n"
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'streamlit'} & set(sys.modules)), status)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == first.stdout + "[] 0\n"


def test_exports_are_written_where_asked(tmp_path):
    path = scenarios.sync()
    perfetto = tmp_path / "out.json.gz"
    assert whyslow("export", path, "--perfetto", perfetto).returncode == 0
    assert json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    assert whyslow("export", path, "--csv", tmp_path / "csv").returncode == 0
    with (tmp_path / "csv" / "kernels.csv").open(newline="") as file:
        assert list(csv.DictReader(file))
    assert whyslow("export", path, "--parquet", tmp_path / "parquet").returncode == 0
    assert (tmp_path / "parquet" / "kernels.parquet").stat().st_size


@pytest.mark.parametrize("kind", ["--perfetto", "--csv", "--parquet"])
def test_an_export_that_cannot_be_written_names_the_place(tmp_path, kind):
    (tmp_path / "file").write_text("kept")
    target = tmp_path / "file" / "out"
    line = one_error_line(whyslow("export", scenarios.sync(), kind, target), 3)
    assert line.startswith(f"{target}: cannot be written")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_reader_that_stops_early_is_no_error():
    ran = subprocess.run(
        f"{sys.executable} -m cli diagnose {scenarios.sync()} --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("{", "")


def test_wrong_arguments_are_explained_by_the_usage():
    assert whyslow().returncode == 2
    assert whyslow("export", "some.sqlite").returncode == 2
    assert "usage: whyslow" in whyslow("--help").stdout


@pytest.mark.parametrize("option", ["--html", "--markdown"])
def test_a_folder_that_is_missing_is_told_before_the_work(tmp_path, option):
    ran = whyslow("report", str(tmp_path / "absent.sqlite"), option, str(tmp_path / "no" / "x"))
    assert ran.returncode == 2
    assert "does not exist. Create it" in ran.stderr


def test_a_terminal_sees_a_progress_bar_that_is_gone_at_the_end():
    ours, theirs = pty.openpty()
    path = scenarios.scenario("launch", iterations=400)
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "diagnose", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        answer = process.stdout.read()
    seen = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert json.loads(answer)["schema"] == 1
    assert "█" in seen.decode()
    assert seen.endswith(b"\r\x1b[K")


def _stop_reader_of(process):
    """Halt the child process of a command as soon as it reads, so that it cannot end first."""
    command = psutil.Process(process.pid)
    while process.poll() is None:
        for child in command.children():
            if "jobs.child" in " ".join(child.cmdline()):  # not between fork and exec
                child.suspend()
                return
        time.sleep(0.005)


def test_an_interrupted_command_ends_soon_and_leaves_nothing_behind(data_dir):
    path = scenarios.scenario("launch", iterations=1_000)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        with subprocess.Popen(
            [sys.executable, "-m", "cli", "diagnose", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=obey_interrupts,
        ) as process:
            try:
                _stop_reader_of(process)
                process.send_signal(number)
                _, errors = process.communicate(timeout=10)
            finally:
                process.kill()
        assert process.returncode == status
        assert errors == b""
    time.sleep(0.3)
    cache.sweep()
    for trace in cache.traces():  # the analysis was interrupted, not the reading
        assert trace.arrow("kernels").num_rows == trace.count("kernels") > 0
    assert list((data_dir / "jobs").glob("*")) == []
    assert list((data_dir / "cache").glob("tmp/*")) == []


def test_names_in_a_recording_cannot_command_the_terminal():
    report = json.loads(whyslow("diagnose", scenarios.sync(), "--json").stdout)
    report["findings"][0]["title"] = "evil \x1b[2J\r name \u202e"
    text = terminal_text(diagnosis_summary(Report.from_dict(report)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "evil \ufffd[2J\ufffd name \ufffd" in text


@pytest.mark.skipif(not (ROOT / "app.py").exists(), reason="the pages are not there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_open_serves_the_recording_until_it_is_stopped(data_dir, number):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "cli", "open", str(scenarios.sync())]
    with subprocess.Popen(
        [*command, "--no-browser", f"--port={port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=obey_interrupts,
    ) as process:
        line = process.stdout.readline()
        try:
            (trace,) = cache.traces()
            assert f"http://127.0.0.1:{port}/?trace={trace.id}" in line
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
            assert page.status == 200
            page.close()
            process.send_signal(number)
            process.wait(timeout=10)
        finally:
            process.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


SILENT_SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for answered in range(3):  # the first two are left waiting, as by a machine that has just begun
    asked, _ = server.accept()
    if answered == 2:
        asked.recv(4096)
        asked.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
    asked.close()
time.sleep(60)
"""


def test_open_waits_as_long_as_its_server_lives_and_says_for_what(monkeypatch, capsys):
    monkeypatch.setattr(open_command, "QUIET_S", 0.0)
    port = open_command._free_port(open_command.HOST, 0)
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-c", SILENT_SERVER, str(port)]) as server:
        try:
            open_command._wait_until_healthy(server, address)
            assert server.poll() is None
        finally:
            server.kill()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"waiting for the dashboard's server to answer at {address}, for 0 s so far" in line
    assert f"process {server.pid}; Ctrl-C gives up" in line


def test_open_gives_up_when_its_server_has_ended():
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as server,
        pytest.raises(EnvironmentFailedError, match="stopped with exit status 7"),
    ):
        open_command._wait_until_healthy(server, "http://127.0.0.1:1")


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = whyslow("open", scenarios.sync(), "--no-browser", f"--port={port}")
    assert "Choose another --port" in one_error_line(ran, 3)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real recordings")
@pytest.mark.parametrize(
    "path", sorted((REAL / "nsys_sqlite").glob("*.sqlite")), ids=lambda p: p.name[-40:]
)
def test_every_real_recording_is_answered_or_refused_in_one_line(path):
    before = (path.read_bytes(), sorted(path.parent.iterdir()))
    ran = whyslow("diagnose", path, "--json")
    if ran.returncode:
        assert path.name == "hpcgroup__pipit__docs__examples__test.sqlite"
        assert one_error_line(ran, 2)
    else:
        for device in json.loads(ran.stdout)["devices"]:
            assert sum(device["ledger"].values()) == device["duration_ns"]
    assert (path.read_bytes(), sorted(path.parent.iterdir())) == before


def test_a_full_disk_behind_the_output_is_the_environments_failure():
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "cli", "diagnose", str(scenarios.sync()), "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 3
    assert ran.stderr.startswith("whyslow: the answer cannot be written")
    assert len(ran.stderr.splitlines()) == 1


def test_rules_that_could_not_tell_for_one_reason_share_a_line():
    ran = whyslow("diagnose", ROOT / "traces" / "cpu_training.sqlite")
    assert ran.stdout.count("no GPU work was recorded") == 1


def test_the_version_is_told():
    assert re.fullmatch(r"whyslow \d+\.\d+\.\d+\n", whyslow("--version").stdout)


def test_a_plain_terminal_gets_the_answer_in_its_own_characters():
    ran = subprocess.run(
        [sys.executable, "-m", "cli", "diagnose", str(scenarios.sync())],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0
    assert "sync-bound: for 43 % of the window" in ran.stdout.splitlines()[0]


def test_an_export_heals_a_damaged_copy_of_the_recording(data_dir, tmp_path):
    path = scenarios.sync()
    whyslow("diagnose", path)
    table = next((data_dir / "cache").glob("*/kernels.parquet"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)
    ran = whyslow("export", path, "--csv", tmp_path / "out")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "out" / "kernels.csv").exists()


def test_an_export_never_replaces_a_recording(tmp_path):
    path = shutil.copy(scenarios.sync(), tmp_path / "mine.sqlite")
    before = Path(path).read_bytes()
    one_error_line(whyslow("export", path, "--perfetto", path), 2)
    assert Path(path).read_bytes() == before
