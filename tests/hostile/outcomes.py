"""What a hostile file gets, by the very path that a child process takes with it."""

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from analyzers.report import Report
from analyzers.verdict import DAMAGES
from collectors.trace import Trace
from jobs import steps
from jobs.child import answer_of
from jobs.deaths import exception_of
from jobs.steps import ReportProgress
from jobs.tasks import Analysed, Failure, OpenRecording
from library import analyses, cache
from tests.hostile.nsys_files import nsys_files
from tests.hostile.other_files import other_files
from tests.hostile.torch_files import torch_files

MANIFEST = Path(__file__).with_name("manifest.tsv")
WORDS = 90  # of a line that is refused with: enough to tell which it is
_LIMITS = {"WHYSLOW_LIMIT_GZIP_RATIO": "50"}  # so that a small bomb is one


ANALYSED_EVERY = 12  # files; an analysis costs twelve times what reading does


class HostileFile(NamedTuple):
    """A file of the kit: what it is, what it is called, and what writes it to a path."""

    name: str
    file_name: str
    write: Callable[[Path], Path]
    is_analysed: bool = True


class ReadRecording(NamedTuple):
    """A task for the child that ends when the recording is read."""

    place: Path

    def run(self, report: ReportProgress) -> Analysed:
        """Read it."""
        return Analysed(trace_id=steps.read(self.place, report).id, analysis="")


def hostile_files() -> Iterator[HostileFile]:
    """Yield every file of the kit."""
    count = 0
    for files in (nsys_files, torch_files, other_files):
        for name, file_name, content in files():
            write = (
                functools.partial(write_content, content) if isinstance(content, bytes) else content
            )
            is_analysed = count % ANALYSED_EVERY == 0 or name.startswith("telemetry: ")
            yield HostileFile(name, file_name, write, is_analysed)
            count += 1


def write_content(content: bytes, path: Path) -> Path:
    """Write a file of this content; return where it is."""
    path.write_bytes(content)
    return path


def outcome_of(file: HostileFile, monkeypatch) -> str:
    """Return one line on what the file gets; an assertion fails where a promise is broken.

    Whatever it is: the file is not changed, nothing is left behind, what is refused is refused
    with one printable line that names no folder, and what is read sums.
    """
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        monkeypatch.setenv("WHYSLOW_DATA_DIR", str(folder / "data"))
        monkeypatch.setenv("PATH", str(folder))  # no nsys, whatever the machine has
        for variable, value in _LIMITS.items():
            monkeypatch.setenv(variable, value)
        place = folder / "given"
        place.mkdir()
        path = file.write(place / file.file_name)
        before = _state(place)
        task: Any = ReadRecording(path)
        if file.is_analysed:
            has_lanes = file.name.startswith("telemetry: ")
            task = OpenRecording(path=str(path), timeline=has_lanes)
        answer = answer_of(task, lambda *_: None)
        assert _state(place) == before, "the file was changed, or something written beside it"
        tmp = cache.cache_root() / "tmp"
        assert not tmp.is_dir() or not any(tmp.iterdir()), "something was left behind"
        if isinstance(answer, Failure):
            return _refused(answer, folder)
        assert isinstance(answer, Analysed)
        trace = Trace.load(cache.cache_root() / answer.trace_id)
        if answer.analysis:
            _check_report(trace, analyses.at(answer.trace_id, answer.analysis).report)
        return _opened(trace)
    finally:
        shutil.rmtree(folder)


def _state(folder: Path) -> dict[str, str]:
    """Return what lies in a folder, and a digest of each file of up to a megabyte or so."""
    state = {}
    for entry in sorted(folder.iterdir()):
        is_small = entry.is_file() and entry.stat().st_size < 1 << 24
        state[entry.name] = hashlib.sha256(entry.read_bytes()).hexdigest() if is_small else ""
    return state


def _refused(failure: Failure, folder: Path) -> str:
    error = exception_of(failure)
    line = failure.message
    assert line.isprintable()
    assert 0 < len(line) <= 300
    assert str(folder) not in line
    return f"refused {error.exit_code}: {line.partition(': ')[2][:WORDS]}"


def _check_report(trace: Trace, report: Report) -> None:
    for device in report.devices:
        assert sum(device.rows.values()) == device.duration_ns, "the ledger does not sum"
        assert min(device.rows.values(), default=0) >= 0
    assert report.verdict.sentence.isprintable()
    if any(n.code in DAMAGES for n in trace.notes):
        words = ("damaged file", "file is truncated")
        assert any(w in report.verdict.sentence for w in words), report.verdict.sentence


def _opened(trace: Trace) -> str:
    for row in trace.row_counts:
        assert row.used + row.excluded == row.rows, f"rows of {row.table} do not sum"
    kernels = trace.count("profiled_kernels") or trace.count("kernels")
    notes = sorted({f"{n.code} {n.count:,}" for n in trace.notes if n.severity != "info"})
    infos = sorted({n.code for n in trace.notes if n.severity == "info"})
    warned = f"; warned of {', '.join(notes)}" if notes else ""
    noted = f"; noted {', '.join(infos)}" if infos else ""
    return f"opens: {kernels} kernels{warned}{noted}"


def manifest() -> dict[str, str]:
    """Return what each file must get, by its name."""
    lines = MANIFEST.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))
