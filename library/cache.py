"""Where opened recordings live: derived data that can be thrown away and made again.

``cache/<trace>`` holds one trace each, complete or not there at all. ``index/<key>.json`` says
which trace a file on disk became; the file is known by its real path, number (inode), size and
times of change, as they were before it was read.
A record also holds the digest of the trace's manifest, so that a damaged copy is noticed.

Nothing heavy is imported here: a second look at a recording has to be instant.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from common.files import file_holding, write_file
from common.platform import file_lock, lock_byte
from common.text import file_name_text, printable

if TYPE_CHECKING:
    from collectors.errors import EnvironmentFailedError
    from collectors.trace import Trace

DATA_DIR_VARIABLE = "WHYSLOW_DATA_DIR"
MANIFEST = "manifest.json"
LATEST = "record.json"  # beside the manifest: the record of the file that became the trace last
TEMPORARY = "tmp"
KEPT_FAILED_JOBS = 20  # logs of our own defects, for a bug report

_STORAGE_ERRORS = {
    errno.ENOSPC: "no disk space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOTDIR: "not a folder",
    errno.EEXIST: "not a folder",
    errno.EIO: "the disk reports an error",
}
_TRACE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")  # a longer one is no file name


def data_dir() -> Path:
    """Return the folder that holds everything whyslow stores."""
    if chosen := os.environ.get(DATA_DIR_VARIABLE):
        return Path(chosen).absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).absolute() / "whyslow"
    return Path("~/.cache/whyslow").expanduser()


def cache_root() -> Path:
    """Return the folder that holds the traces."""
    return data_dir() / "cache"


def jobs_root() -> Path:
    """Return the folder in which running and failed jobs keep their files."""
    return data_dir() / "jobs"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the index knows about one file on disk.

    Attributes:
        path: Its real path.
        name: Its name, as it was given.
        inode: Its number in the file system just before it was read.
        size: Its size in bytes then.
        mtime_ns: Time of the last change of its content then.
        ctime_ns: Time of the last change of anything about it then; nobody can set it back.
        trace: Folder name of the trace it became.
        manifest_sha256: Digest of that trace's manifest.
        reader: Fingerprint of the definition of a trace, so that a newer whyslow reads again.
        order: Rises with every record; wall clocks jump.
    """

    path: str
    name: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    trace: str
    manifest_sha256: str
    reader: str
    order: int


def find_folder(path: Path) -> Path | None:
    """Return the folder of the intact trace of this very file, without reading the file."""
    try:
        record = _load_record(_record_path(path))
    except (OSError, ValueError):  # a relative path in a folder that was deleted; a NUL
        return None
    if record is None or not _still_describes(record, path):
        return None
    folder = cache_root() / record.trace
    if not _is_intact(folder, record.manifest_sha256):
        return None
    if record.reader != _reader_fingerprint() and not _has_current_version(folder):
        return None
    return folder


def find(path: Path) -> Trace | None:
    """Return the cached trace of this very file, or None when it has to be read (again)."""
    from collectors.errors import TraceError
    from collectors.trace import Trace

    folder = find_folder(path)
    try:
        return Trace.load(folder) if folder else None
    except TraceError:  # vanished or damaged since: it is read again
        return None


def remember(path: Path, trace: Trace, before: os.stat_result | None = None) -> None:
    """Note that the file at ``path`` became ``trace``.

    Args:
        path: The recording.
        trace: What it became.
        before: What the file was before it was read; by default what it is now.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    with writing():
        record = Record(
            **_identity(path, before or file_holding(path).stat()),
            name=file_name_text(path.name),
            trace=trace.id,
            manifest_sha256=_digest(trace.folder / MANIFEST),
            reader=_reader_fingerprint(),
            order=1 + max((r.order for r in _records()), default=0),
        )
        write_json(_record_path(path), asdict(record))
        write_json(trace.folder / LATEST, asdict(record))  # so that `get` reads one record, not all


def note_reopening(path: Path) -> None:
    """Make a file that was opened again the newest of the library; its trace is named by it.

    Does nothing for a file that the library does not know, nor where the disk cannot be written:
    the recording is there all the same.
    """
    record = _load_record(_record_path(path))
    newest = max((r.order for r in _records()), default=0)
    if record is None or (record.order == newest and record.name == file_name_text(path.name)):
        return
    text = json.dumps(asdict(replace(record, name=file_name_text(path.name), order=newest + 1)))
    with contextlib.suppress(OSError):
        write_file(_record_path(path), text)
        write_file(cache_root() / record.trace / LATEST, text)


def has_traces() -> bool:
    """Tell whether anything was opened yet; cheap, so that it may be asked for every page."""
    return any((data_dir() / "index").glob("*.json"))


def traces() -> list[Trace]:
    """Return every trace of the library that can be opened, the newest first."""
    from collectors.errors import TraceError
    from collectors.trace import Trace

    newest: dict[str, Record] = {}
    for record in sorted(_records(), key=lambda r: r.order):
        newest[record.trace] = record
    in_order = []
    for record in sorted(newest.values(), key=lambda r: r.order, reverse=True):
        with contextlib.suppress(TraceError):
            in_order.append(named(Trace.load(cache_root() / record.trace), record.name))
    return in_order


def get(trace_id: str) -> Trace:
    """Return the trace named ``trace_id``.

    Raises:
        RefusedError: The library has no such recording.
        EnvironmentFailedError: Its cached copy is damaged.
    """
    from collectors.errors import RefusedError
    from collectors.trace import Trace

    if not is_known(trace_id):
        name = printable(trace_id[:80])
        raise RefusedError(f"{name}: not in the library (deleted?). Open the recording again")
    folder = cache_root() / trace_id
    record = _load_record(folder / LATEST)
    if record is None:  # damaged, or written by an older version
        newest_first = sorted(_records(), key=lambda r: r.order, reverse=True)
        record = next((r for r in newest_first if r.trace == trace_id), None)
    trace = Trace.load(folder)
    return named(trace, record.name) if record is not None else trace


def paths_of(trace_id: str) -> list[Path]:
    """Return where the files lie that became this trace, the one opened last first."""
    records = sorted(_records(), key=lambda r: r.order, reverse=True)
    return [Path(r.path) for r in records if r.trace == trace_id]


def is_known(trace_id: str) -> bool:
    """Tell whether the library has a recording of this name; cheap."""
    return (
        _TRACE_ID.fullmatch(trace_id) is not None and (cache_root() / trace_id / MANIFEST).is_file()
    )


def named(trace: Trace, name: str) -> Trace:
    """Return ``trace`` under the name of another file with the same content."""
    if trace.source.name == name:
        return trace
    return replace(trace, source=replace(trace.source, name=name))


def remove(trace_id: str) -> None:
    """Forget the trace named ``trace_id`` and delete its folder; the recording stays.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    if not _TRACE_ID.fullmatch(trace_id):
        return
    with writing():
        for path in _record_paths():
            record = _load_record(path)
            if record is not None and record.trace == trace_id:
                path.unlink(missing_ok=True)
        vanish(cache_root() / trace_id)


def vanish(folder: Path) -> None:
    """Delete ``folder`` of the cache at one stroke, then what was in it."""
    grave = cache_root() / TEMPORARY / uuid.uuid4().hex
    with contextlib.suppress(FileNotFoundError):
        grave.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(grave)
    shutil.rmtree(grave, ignore_errors=True)


def sweep() -> None:
    """Delete what killed jobs left behind; does nothing while any job is running."""
    # A read-only library can still be looked at, so an error of the disk is no trouble here.
    with contextlib.suppress(OSError), _jobs_lock(waits=False):
        _sweep()


@contextlib.contextmanager
def job_running() -> Iterator[None]:
    """Keep ``sweep`` away while something is being written.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with writing():
            data_dir().mkdir(parents=True, exist_ok=True)
            stack.enter_context(_jobs_lock(is_shared=True))
        yield


@contextlib.contextmanager
def file_taken(path: Path) -> Iterator[Iterator[None]]:
    """Let one process at a time read the file at ``path``.

    Yields:
        An iterator that gives None for as long as another process has it, then ends.
    """
    # One byte of one lock file for each recording. Not the library filelock: its locks are whole
    # files, and nothing could tell when the one of a recording is not needed any more.
    byte = int(_record_path(path).stem[:7], 16)

    def turns() -> Iterator[None]:
        while True:
            try:
                lock_byte(handle, byte)
            except BlockingIOError:
                yield
            else:
                return

    with (data_dir() / "files.lock").open("ab") as handle:
        yield turns()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn an error of the disk into one line that names the data folder."""
    try:
        yield
    except OSError as error:
        raise (storage_error(error) or error) from error


def storage_error(error: OSError) -> EnvironmentFailedError | None:
    """Return the line for an error of the disk; None when it is about something else."""
    from collectors.errors import EnvironmentFailedError
    from collectors.trace import file_size_limit

    if error.errno == errno.EFBIG:
        return EnvironmentFailedError(f"{data_dir()}: {file_size_limit()}. Set a higher one")
    trouble = _STORAGE_ERRORS.get(error.errno or 0)
    if trouble is None:
        return None
    return EnvironmentFailedError(
        f"{data_dir()}: {trouble}. Free disk space, or choose another folder with --data-dir "
        f"or {DATA_DIR_VARIABLE}"
    )


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` at one stroke, surviving a crash at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(value), durable=True)


@functools.cache
def fingerprint(*modules: str) -> str:
    """Return a digest of the source text of packages and modules, without importing them.

    Looked at once: what runs is what was loaded, whatever happens to the files.

    Args:
        modules: Dotted names; a package stands for every file beneath it, tables of names included.

    Raises:
        ModuleNotFoundError: One of them does not exist. The digest of nothing would never change,
            and what was stored under it would outlive the code that made it.
    """
    digest = hashlib.sha256()
    for module in modules:
        folder, files = _source_files(module)
        for file in files:
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def _source_files(module: str) -> tuple[Path, list[Path]]:
    """Return the folder of the top-level package, and the files of a module or package in it."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        place = folder.joinpath(*rest)
        if rest and (file := place.with_suffix(".py")).is_file():
            return folder, [file]
        if files := sorted(place.rglob("*.py")):
            return folder, files + sorted(place.rglob("*.tsv"))
    raise ModuleNotFoundError(f"no source text of the module {module!r}", name=module)


def _reader_fingerprint() -> str:
    return fingerprint("collectors.schema", "collectors.trace")


def _has_current_version(folder: Path) -> bool:
    # The definition's text changed; only its version number says whether its meaning did.
    from collectors.trace import READER_VERSION

    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return bool(manifest.get("reader_version") == READER_VERSION)


def _record_path(path: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return data_dir() / "index" / f"{key}.json"


def _record_paths() -> list[Path]:
    return list((data_dir() / "index").glob("*.json"))


def _records() -> list[Record]:
    return [r for r in map(_load_record, _record_paths()) if r is not None]


def _load_record(path: Path) -> Record | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data["order"], int) or not _TRACE_ID.fullmatch(data["trace"]):
            return None
        return Record(**data)
    except (OSError, ValueError, TypeError, KeyError):  # damaged: the file is read again
        return None


def _still_describes(record: Record, path: Path) -> bool:
    try:
        status = file_holding(path).stat()
    except OSError:
        return False
    now = _identity(path, status)
    return stat.S_ISREG(status.st_mode) and all(getattr(record, k) == v for k, v in now.items())


def _identity(path: Path, status: os.stat_result) -> dict[str, Any]:
    """Return what tells this very file, in this very state, from all others."""
    return {
        "path": file_name_text(os.path.realpath(path)),
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }


def _is_intact(folder: Path, manifest_sha256: str) -> bool:
    try:
        text = (folder / MANIFEST).read_bytes()
        if hashlib.sha256(text).hexdigest() != manifest_sha256:
            return False
        sizes = json.loads(text)["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _jobs_lock(
    *, is_shared: bool = False, waits: bool = True
) -> contextlib.AbstractContextManager[IO[bytes]]:
    # Any number of jobs share it, the sweep holds it alone, and a killed process lets go of it. The
    # library filelock would need a database or files of its own for a lock that can be shared.
    return file_lock(data_dir() / "jobs.lock", is_shared=is_shared, waits=waits)


def _sweep() -> None:
    shutil.rmtree(cache_root() / TEMPORARY, ignore_errors=True)
    reachable = {record.trace for record in _records()}
    for folder in _entries(cache_root()):
        if folder.name not in reachable:  # killed before it was remembered: nobody can find it
            shutil.rmtree(folder, ignore_errors=True)
        for place in ("analysis/.*", "timeline/.*", "analysis/*/.*"):
            for unfinished in folder.glob(place):
                shutil.rmtree(unfinished, ignore_errors=True)
    for file in _entries(data_dir() / "index"):
        if file.suffix != ".json" or _load_record(file) is None:
            file.unlink(missing_ok=True)
    for number, job in enumerate(_newest_failed_first(jobs_root())):
        if number >= KEPT_FAILED_JOBS:
            shutil.rmtree(job, ignore_errors=True)


def _newest_failed_first(root: Path) -> list[Path]:
    failed = []
    for job in _entries(root):
        if (job / "defect").exists():
            failed.append(job)
        else:
            shutil.rmtree(job, ignore_errors=True)
    return sorted(failed, key=lambda j: j.stat().st_mtime_ns, reverse=True)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
