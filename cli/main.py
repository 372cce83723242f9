"""The ``whyslow`` command: open recordings in the browser, diagnose them, export them.

Thin: every answer comes from the same calls as on the pages. A recording that was opened before
is answered from the stored report, without loading anything that is slow to import.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobs.job as worker
from analyzers.words import by_reason, share_text, time_text
from cli import compare_options, report_options
from library import cache

if TYPE_CHECKING:
    from analyzers.compare.types import Comparison
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Trace
    from jobs.job import Opened, Progress
    from library.analyses import Stored

DEFECT, INTERRUPTED = 70, 130
_OUTPUTS = ("perfetto", "html", "markdown", "json", "junit")  # options that name a file
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
BAR_CELLS = 30
MAX_PATH = 120  # characters of a path in a message; its end tells most
SERVER_WAIT_S = 30.0  # a cold start takes 2 s; a busy disk may need a lot longer
HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a plain terminal may not know every character
            stream.reconfigure(errors="backslashreplace")
    chosen = _parsed(list(sys.argv[1:] if arguments is None else arguments))
    if chosen.data_dir:
        os.environ[cache.DATA_DIR_VARIABLE] = str(Path(chosen.data_dir).absolute())
    try:
        with contextlib.suppress(BrokenPipeError):  # the reader of our output has seen enough
            _check_outputs(chosen)
            status = chosen.run(chosen) or 0
            sys.stdout.flush()
            return int(status)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _fail(error, getattr(chosen, "path", None))
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; what follows ``--`` of a capture is a command of the user's."""
    command: list[str] = []
    if arguments[:1] == ["capture"] and "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
    chosen = _parser().parse_args(compare_options.with_separator(arguments))
    chosen.command = command
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whyslow", description="Tells why a GPU program is slow, from a profiler's recording."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--data-dir", metavar="DIR", help="where opened recordings are kept (~/.cache/whyslow)"
    )
    windowed = argparse.ArgumentParser(add_help=False)
    windowed.add_argument(
        "--window",
        default="",
        metavar="WINDOW",
        help="part to analyse: nvtx:NAME#n, iteration:n or span:START_NS-END_NS",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_open(commands, shared)
    _add_diagnose(commands, shared, windowed)
    _add_what_if(commands, shared, windowed)
    command = commands.add_parser(
        "compare", parents=[shared], help="say whether a program got faster, and why"
    )
    compare_options.add_options(command)
    command.set_defaults(run=_compare)
    _add_export(commands, shared, windowed)
    command = commands.add_parser(
        "report",
        parents=[shared],
        help="write what whyslow says to one HTML, Markdown or JSON file",
    )
    report_options.add_options(command)
    command.set_defaults(run=_report)
    _add_capture(commands, shared)
    return parser


def _add_open(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser("open", parents=[shared], help="open recordings in the browser")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.add_argument("--port", type=int, default=0, help="port of the server (default: free)")
    command.set_defaults(run=_open)


def _add_diagnose(commands: Any, *shared: argparse.ArgumentParser) -> None:
    command = _of_one_recording(commands, "diagnose", shared, "say why a recording is slow")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--counters",
        type=Path,
        metavar="REPORT.ncu-rep",
        help="counters of Nsight Compute of the same program, joined to the kernels of PATH",
    )
    command.set_defaults(run=_diagnose)


def _add_what_if(commands: Any, *shared: argparse.ArgumentParser) -> None:
    meaning = "predict what changes to a program would win"
    command = _of_one_recording(commands, "whatif", shared, meaning)
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--speed-up",
        action="append",
        default=[],
        metavar="KERNEL=TIMES",
        help="also predict for kernels with KERNEL in their name that run TIMES as fast",
    )
    command.set_defaults(run=_what_if)


def _add_export(commands: Any, *shared: argparse.ArgumentParser) -> None:
    meaning = "write a recording and its analysis to files"
    command = _of_one_recording(commands, "export", shared, meaning)
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--perfetto", type=Path, metavar="OUT.json.gz", help="Chrome trace JSON")
    kind.add_argument("--csv", type=Path, metavar="DIR", help="one CSV file per table")
    kind.add_argument("--parquet", type=Path, metavar="DIR", help="one Parquet file per table")
    command.set_defaults(run=_export)


def _of_one_recording(
    commands: Any, name: str, shared: Sequence[argparse.ArgumentParser], meaning: str
) -> argparse.ArgumentParser:
    """Add a command about one recording; its path also begins what is said about a window."""
    command: argparse.ArgumentParser = commands.add_parser(name, parents=shared, help=meaning)
    command.add_argument("path", type=Path, metavar="PATH")
    return command


def _add_capture(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "capture",
        parents=[shared],
        help="run a program under a profiler and open what it records",
        usage="%(prog)s [options] (WORKLOAD | PAIR | -- COMMAND …)",
        epilog="`python -m workloads` lists the pairs; they need PyTorch.",
    )
    command.add_argument("workload", nargs="*", metavar="WORKLOAD", help="or -- COMMAND …")
    command.add_argument(
        "--with",
        dest="tools",
        default="nsys",
        metavar="TOOLS",
        help="nsys, torch, ncu, telemetry, several with commas, or all (default: nsys)",
    )
    command.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each (1)")
    command.add_argument("--out", type=Path, metavar="DIR", help="where recordings are put")
    command.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds for one run (600)"
    )
    for name, meaning in (
        ("steps", "how many steps a workload measures"),
        ("warmup", "how many steps a workload does before"),
        ("seed", "what a workload draws its random numbers from"),
    ):
        command.add_argument(f"--{name}", type=int, metavar="N", help=meaning)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where a workload runs")
    command.add_argument("--python", default="", metavar="PATH", help="what runs a workload")
    command.add_argument(
        "--whole-graphs", action="store_true", help="record CUDA graphs as one block each (nsys)"
    )
    command.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="of telemetry (10)")
    command.add_argument("--job", default="", help=argparse.SUPPRESS)
    command.set_defaults(run=_capture)


class _Version(argparse.Action):
    """Prints the installed version; looking it up is too slow for every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"whyslow {version('whyslow')}")
        parser.exit()


def _fail(error: Exception, path: Path | None = None) -> int:
    """Print one line about ``error`` and return the exit status it stands for.

    Args:
        error: What went wrong.
        path: The recording that was asked about, where there is only one.
    """
    from analyzers.facts.facts import WindowError
    from collectors.errors import TraceError
    from library.predictions import SpeedUpError

    if isinstance(error, TraceError):
        status, line = error.exit_code, worker.one_line(error)
    elif isinstance(error, WindowError):
        file = f"{_short(path.name)}: " if path is not None else ""
        status, line = 2, f"{file}{worker.one_line(error)}"
    elif isinstance(error, SpeedUpError):
        status, line = 2, worker.one_line(error)
    elif isinstance(error, OSError) and error.errno in _FULL:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it fails again at exit
        status, line = 3, f"the answer cannot be written ({os.strerror(error.errno or 0)})"
    else:
        status, line = DEFECT, f"a defect of whyslow ({type(error).__name__}){_log(error)}"
    print(f"whyslow: {line}", file=sys.stderr)
    return status


def _check_outputs(chosen: argparse.Namespace) -> None:
    """Refuse files in folders that do not exist, before the work and not after it."""
    for option in _OUTPUTS:
        target = getattr(chosen, option, None)
        if isinstance(target, Path) and not target.parent.exists():
            from collectors.errors import RefusedError

            raise RefusedError(
                f"{_short(str(target))}: the folder {_short(str(target.parent))} does not exist. "
                "Create it, or choose another place"
            )


def _log(error: Exception) -> str:
    """Keep the traceback for a bug report; say where it is."""
    path = cache.jobs_root() / f"cli-{os.getpid()}" / "log.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        (path.parent / "defect").touch()
    except OSError:
        return ""
    return f"; log: {path}"


def _diagnose(chosen: argparse.Namespace) -> None:
    counters = _opened(chosen.counters).trace.id if chosen.counters else ""
    text = _report_text(chosen.path, chosen.window, counters)
    sys.stdout.write(f"{text}\n" if chosen.json else _in_words(json.loads(text)))


def _compare(chosen: argparse.Namespace) -> int:
    *_, comparison = _compared(chosen, smallest=chosen.smallest, anyway=chosen.anyway)
    with _writing_to(chosen.markdown or chosen.junit or Path("stdout")):
        text, answer = compare_options.written(comparison, chosen)
    sys.stdout.write(text)
    return answer.status


def _compared(
    chosen: argparse.Namespace, *, smallest: float | None = None, anyway: bool = False
) -> tuple[list[Trace], list[Trace], Comparison]:
    """Compare recordings; two are opened at a time, as there are two sides."""
    from library import comparisons

    base, new = compare_options.sides(chosen)
    with _bar("compare") as show, ThreadPoolExecutor(comparisons.AT_A_TIME) as threads:
        traces = list(threads.map(lambda path: _trace(path, show), [*base, *new]))
        sides = traces[: len(base)], traces[len(base) :]
        options = {"window": chosen.window, "device": chosen.device}
        options |= {"smallest": smallest, "anyway": anyway}
        return (
            *sides,
            comparisons.compare_recordings(*sides, **options, measure=worker.measure),
        )


def _trace(path: Path, show: Any) -> Trace:
    """Return a recording of the library; opens it when it is not there."""
    stored = worker.start(path, timeline=False).wait(show)
    return cache.named(cache.get(stored.trace_id), stored.name)


def _report_text(path: Path, window: str, counters: str) -> str:
    """Return the report as JSON text, made now or stored before."""
    return _stored(path, window, counters).report_text()


def _report(chosen: argparse.Namespace) -> None:
    wanted = report_options.wanted(chosen)
    if len(chosen.recordings) > 1 or chosen.new:
        base, new, comparison = _compared(chosen)
        what_if = _predicted(base[0], chosen.window, comparison)
        with _writing_to(wanted.first):
            what = wanted.compare(base, new, comparison, what_if)
    else:
        what = _diagnosed(chosen, wanted)
    print(_shown(what))


def _predicted(baseline: Trace, window: str, comparison: Comparison) -> WhatIf | None:
    """Return what a change of the baseline would win; None where nothing can stand beside it."""
    from analyzers.compare.types import ComparisonVerdict

    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        return None
    return worker.predict_compared(baseline, window, comparison.base.recordings[0].warm_up)


def _diagnosed(chosen: argparse.Namespace, wanted: report_options.ReportRequest) -> str:
    from collectors.errors import DamagedError

    path, window = chosen.recordings[0], chosen.window
    counters = _opened(chosen.counters).trace.id if chosen.counters else ""
    for is_last in (False, True):
        stored = _stored(path, window, counters)
        trace = cache.named(cache.get(stored.trace_id), stored.name)
        try:
            with _writing_to(wanted.first):
                return wanted.diagnose(trace, stored, window, counters)
        except DamagedError:  # noticed only while its tables are read: made anew, once
            if is_last:
                raise
            cache.remove(trace.id)
    raise AssertionError


def _stored(path: Path, window: str, counters: str) -> Stored:
    """Return the analysis, made now or stored before; nobody looks at its timeline."""
    job = worker.start(path, window=window, counters=counters, timeline=False)
    with _bar(path.name) as show:
        return job.wait(show)


def _what_if(chosen: argparse.Namespace) -> None:
    from library import predictions

    asked = [predictions.parse_speed_up(text) for text in chosen.speed_up]
    with _bar(chosen.path.name) as show:
        known = worker.use_recording(
            chosen.path,
            lambda opened: worker.predict(opened.trace, opened.stored.report.window, asked, show),
            window=chosen.window,
            on_progress=show,
        )
    if chosen.json:
        sys.stdout.write(f"{json.dumps(known.to_dict(), indent=1)}\n")
        return
    lines = predictions.in_words(known, chosen.path.name).split("\n")
    sys.stdout.write("\n".join(_shown(line) for line in lines))


def _export(chosen: argparse.Namespace) -> None:
    target: Path = chosen.perfetto or chosen.csv or chosen.parquet
    with _bar(chosen.path.name) as show:
        what = worker.use_recording(
            chosen.path,
            lambda opened: _written(opened, chosen, target, show),
            window=chosen.window,
            on_progress=show,
        )
    print(f"{_shown(str(target))}: {what}")


def _written(opened: Opened, chosen: argparse.Namespace, target: Path, show: Any) -> str:
    """Write the files that were asked for, and say how much that is."""
    options: dict[str, Any] = {"only_window": bool(chosen.window)}
    with _writing_to(target):
        if chosen.perfetto:
            from exports import perfetto

            if show is not None:
                options["on_progress"] = lambda part: show(_step(part, "writing events"))
            count = perfetto.export(opened.trace, opened.stored, target, **options)
            return f"{count:,} events"
        from exports import tables

        if show is not None:
            options["on_progress"] = lambda table: show(_step(0.5, f"writing {table}"))
        write = tables.export_csv if chosen.csv else tables.export_parquet
        return f"{len(write(opened.trace, opened.stored, target, **options))} files"


def _step(fraction: float, stage: str) -> Progress:
    return worker.Progress(fraction=fraction, stage=stage)


def _capture(chosen: argparse.Namespace) -> None:
    from captures import capturing, words

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)  # so that everything it started is ended
    with _bar(" ".join(chosen.workload or chosen.command)) as draw:
        show = None if draw is None else lambda part, stage: draw(_step(part, stage))
        capture = capturing.carry_out(chosen, _open_for_capture, show)
    print("\n".join(_shown(line) for line in words.in_words(capture)))
    capturing.check(capture)


def _open_for_capture(path: Path, window: str) -> Any:
    return worker.open_recording(path, window=window)


def _opened(path: Path, window: str = "") -> Opened:
    with _bar(path.name) as show:
        return worker.open_recording(path, window=window, on_progress=show)


@contextlib.contextmanager
def _writing_to(target: Path) -> Iterator[None]:
    from collectors.errors import EnvironmentFailedError

    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, TimeoutError):
            raise
        trouble = f"cannot be written ({os.strerror(error.errno)})"
        raise EnvironmentFailedError(
            f"{_short(str(target))}: {trouble}. Choose another place"
        ) from error


def _open(chosen: argparse.Namespace) -> None:
    import webbrowser

    port = _free_port(chosen.port)
    trace_id = ""
    for path in chosen.paths:
        trace_id = _opened(path).trace.id
    signal.signal(signal.SIGTERM, _terminated)  # or the server would go on without us
    with _server(port) as process:
        url = f"http://{HOST}:{port}/?trace={trace_id}"
        _wait_until_healthy(process, port)
        print(f"whyslow is at {url} (stop it with Ctrl-C)", flush=True)
        if not chosen.no_browser:
            webbrowser.open(url)
        status = process.wait()
        if status:
            _server_failed(f"stopped with exit status {status}")


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _free_port(wanted: int) -> int:
    """Return ``wanted``, or any free port for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError):
            _server_failed(f"cannot listen on port {wanted}")
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the pages; they end with us."""
    app = Path(__file__).resolve().parents[1] / "app.py"
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.headless=true"]
    command += [f"--server.address={HOST}", f"--server.port={port}"]
    command += ["--browser.gatherUsageStats=false", "--client.showErrorDetails=none"]
    process = subprocess.Popen(command, cwd=app.parent, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    import urllib.error  # slow to import, and no other command needs it
    import urllib.request

    deadline = time.monotonic() + SERVER_WAIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            _server_failed(f"stopped with exit status {process.returncode}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            # A proxy of the environment has no business with our own machine.
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            direct.open(f"http://{HOST}:{port}/_stcore/health", timeout=2).close()
            return
        time.sleep(0.1)
    _server_failed(f"did not answer on port {port} within {SERVER_WAIT_S:g} s")


def _server_failed(trouble: str) -> None:
    from collectors.errors import EnvironmentFailedError

    raise EnvironmentFailedError(f"the page's server {trouble}. Is the port free? Choose --port")


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Any]:
    """Give something that draws the progress, or None when nobody is there to see it."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = worker.one_line(name)[:40]

    def draw(progress: Progress) -> None:
        cells = round(progress.fraction * BAR_CELLS)
        bar = "█" * cells + "░" * (BAR_CELLS - cells)
        stage = worker.one_line(progress.stage)[:40]
        sys.stderr.write(f"\r\x1b[K{shown} {bar} {progress.fraction:4.0%} {stage}")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _in_words(report: dict[str, Any]) -> str:
    """Return the report as text for a terminal; the verdict comes first."""
    lines = [report["verdict"]["sentence"], ""]
    for device in report["devices"]:
        lines += [*_ledger_lines(device), ""]
    if report["findings"]:
        lines.append("Findings, the largest loss first")
        for number, finding in enumerate(report["findings"], 1):
            lines += _finding_lines(number, finding, len(report["devices"]))
        lines.append("")
    lines += _section(
        "Capture quality", (f"{q['level']}: {q['message']}" for q in report["quality"])
    )
    lines += _section("Could not tell", _told(report["skipped"]))
    lines += _section("Failed", (f"{f['id']}: {f['error']}" for f in report["failed"]))
    window = report["window"]
    length = time_text(window["duration_ns"])
    lines.append(f"{report['source']['name']} · {window['label']}, {length}")
    return "\n".join(_shown(line) for line in lines) + "\n"


def _told(skipped: list[dict[str, str]]) -> Iterator[str]:
    """Say each reason once, with the rules that could not tell for it."""
    for reason, names in by_reason((s["reason"], s["id"]) for s in skipped).items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: {reason}"


def _ledger_lines(device: dict[str, Any]) -> list[str]:
    process = f", process {device['process']}" if device["process"] >= 0 else ""
    head = f"GPU {device['device']} {device['name']}".rstrip() + process
    booked = sorted(device["ledger"].items(), key=lambda row: -row[1])
    whole = max(1, device["duration_ns"])
    rows = [
        f"  {row:<14}{time_text(ns):>12}{share_text(ns, whole, exact=True):>9}"
        for row, ns in booked
        if ns
    ]
    return [f"{head}: where {time_text(device['duration_ns'])} went", *rows]


def _finding_lines(number: int, finding: dict[str, Any], devices: int) -> list[str]:
    over = f" over {devices} GPUs" if devices > 1 else ""
    loss = f"{time_text(finding['lost_ns'])} at most{over}, {finding['confidence']}"
    if finding["low_ns"] >= 0:
        low, high = time_text(finding["low_ns"]), time_text(finding["high_ns"])
        loss = f"{time_text(finding['lost_ns'])} estimated, {low} to {high}"
    lines = [f"  {number}. {finding['title']} ({finding['cause']}: {loss})"]
    lines.append(f"     Try: {finding['advice']}")
    if finding["does_not_apply_when"]:
        lines.append(f"     Does not apply when: {finding['does_not_apply_when']}")
    return lines


def _section(title: str, entries: Iterator[str]) -> list[str]:
    lines = [f"  {entry}" for entry in entries]
    return [title, *lines, ""] if lines else []


def _short(text: str) -> str:
    return text if len(text) <= MAX_PATH else f"…{text[-MAX_PATH + 1 :]}"


def _shown(text: str) -> str:
    # A name in a recording may hold an escape sequence of the terminal.
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


if __name__ == "__main__":
    sys.exit(main())
