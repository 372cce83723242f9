"""The torch profiler's traces (Kineto's Chrome JSON), as ``export_chrome_trace`` writes them.

Read as a stream: a batch of events is decoded, sorted by kind and becomes columns, then the next.
Only what runs on a device is kept until the end, because such an event does not say which process
put it there.

Times are microseconds whatever ``displayTimeUnit`` says: that is for the viewer only. The clock is
the recording's own; ``baseTimeNanoseconds`` tells when its zero was. What Kineto writes is known
from its source (``output_json.cpp``, ``ActivityType.h``) and from recordings of 2021 to 2026 on
CUDA, HIP and MTIA.

Ignored on purpose: call stacks, module hierarchies, values of arguments that are no numbers, and
environment of the program (they may be private and nothing here uses them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collectors import input_file
from collectors.errors import RefusedError
from collectors.schema import NOT_RECORDED
from collectors.torch_profiler import names, other_tools
from collectors.torch_profiler.events import Event
from collectors.torch_profiler.file import TorchFile, begins_like_json
from collectors.torch_profiler.job import DistributedJob
from collectors.torch_profiler.kinds import read_counters, take
from collectors.torch_profiler.rows import EXCLUDED, NOTED, REPAIRED
from collectors.torch_profiler.stream import EventStream
from collectors.trace import READER_VERSION, Source, Trace, TraceWriter
from common.text import file_name_text

KNOWN_AS = "traces of the torch profiler (.json, .json.gz)"

SUFFIXES = (".json", ".json.gz")

EVENTS = "traceEvents"


def recognizes(path: Path) -> bool:
    """Tell whether ``path``, unpacked if need be, begins like JSON."""
    return begins_like_json(path)


may_begin = recognizes  # also of the first bytes of an upload


def read(path: Path, root: Path, on_progress: Callable[[float, str], None]) -> Trace:
    """Read a trace into the cache folder ``root``; see ``open_trace``."""
    before = input_file.look_at(path)
    # Our copy of a plain file takes a tenth of it, of a packed one its size.
    input_file.check_space(before.st_size, root)
    writer = TraceWriter(root)
    try:
        file = TorchFile(path)
        stream, job = EventStream(file), DistributedJob(writer)
        for events, texts in stream.batches():
            _take(job, events, texts)
            on_progress(min(0.99, file.read_bytes / file.size_bytes), "reading events")
        _check_is_trace(file, stream, job)
        _note_damage(file, stream, job)
        job.finish(stream.head)
        source = _source(file_name_text(path.name), file, stream.head, job)
        input_file.check_unchanged(path, before)
        return writer.finish(f"{source.sha256[:16]}-{READER_VERSION}", source)
    except BaseException as error:
        writer.discard()
        if isinstance(error, RefusedError):
            input_file.check_unchanged(path, before)  # that is why it looks damaged
        raise


def _take(job: DistributedJob, events: list[Event], texts: bytes | list[bytes]) -> None:
    """Sort one batch by kind, and read kind by kind."""
    job.learn_bounds(events)
    kinds: dict[str, list[Event]] = defaultdict(list)
    halves = []
    for (phase, category), members in _grouped(events).items():
        if phase in ("B", "E"):
            halves = [e for e in events if e.ph in ("B", "E")]
        else:
            kinds[names.kind_of(phase, category)] += members
    for event in job.paired(halves) if halves else ():
        kinds[names.kind_of(event.ph, event.cat)].append(event)
    if kinds.pop(names.COUNTERS, None):
        read_counters(job, events, texts)
    arrows = kinds.pop(names.ARROW, None)  # last: then it is known whether any is needed
    for kind, members in kinds.items():
        take(job, kind, members)
    if arrows:
        take(job, names.ARROW, arrows)


def _grouped(events: list[Event]) -> dict[tuple[Any, Any], list[Event]]:
    groups: dict[tuple[Any, Any], list[Event]] = defaultdict(list)
    try:
        for event in events:
            groups[event.ph, event.cat].append(event)
    except TypeError:  # a list or an object where a word should be
        groups.clear()
        for event in events:
            groups[str(event.ph), str(event.cat)].append(event)
    return groups


def _check_is_trace(file: TorchFile, stream: EventStream, job: DistributedJob) -> None:
    """Refuse JSON that is something else, or that holds no event."""
    name, is_cut_off = file.name, file.cut_off
    damage = stream.damage
    exported = stream.head.get("otherData")
    if isinstance(exported, dict) and "origin_ns" in exported:
        raise RefusedError(f"{name}: an export of whyslow. Open the recording it was made from")
    is_torch = job.is_known
    trouble = other_tools.trouble_by_signs(job.signs, is_torch=is_torch)
    if trouble and not job.has_device_work:
        raise RefusedError(f"{name}: {trouble}")
    if is_torch or (damage.lists and not (job.seen or damage.skipped or damage.lost_bytes > 0)):
        return
    if tool := other_tools.tool_by_keys(stream.keys):
        raise RefusedError(f"{name}: {tool}, not a trace of the profiler. {other_tools.RECORD}")
    if job.seen:
        raise RefusedError(
            f"{name}: a timeline of another tool: none of its {job.seen:,} events is of a kind "
            f"that the torch profiler writes. {other_tools.RECORD}"
        )
    if damage.has_more and not damage.lists:
        raise RefusedError(f"{name}: {other_tools.lines_trouble(stream.keys)}")
    if damage.lists and damage.skipped:
        raise RefusedError(
            f"{name}: JSON, but without a list of events: its members are none, as in a memory "
            f"timeline of PyTorch. {other_tools.RECORD}"
        )
    if damage.lost_bytes > 0:
        raise RefusedError(f"{name}: ends before its first event does. Copy or export it again")
    if is_cut_off or (damage.unclosed and stream.keys):
        raise RefusedError(
            f"{name}: cut off or damaged before its list of events begins. Copy or export it again"
        )
    raise RefusedError(
        f"{name}: JSON, but without a list of events ({EVENTS}), so no trace of the torch "
        f"profiler. {other_tools.RECORD}"
    )


def _note_damage(file: TorchFile, stream: EventStream, job: DistributedJob) -> None:
    """Say what of the file could not be read."""
    damage, tally = stream.damage, job.tally(EVENTS)
    message = "members of the list of events that are no events, or damaged"
    tally.rows += damage.skipped
    tally.note("json_member_skipped", EXCLUDED, message, damage.skipped)
    damaged_inside = file.cut_off and (damage.skipped > 0 or damage.has_more or damage.open_array)
    if (damage.lost_bytes >= 0 and not damage.open_array) or damaged_inside:
        lost = max(damage.lost_bytes, 0)
        where = "its compressed data ends" if file.cut_off else "the file ends"
        message = (
            f"{where} inside the list of events, {lost:,} bytes behind the last whole one; what "
            "came after it is lost, so totals are too low"
        )
        tally.note("json_truncated", NOTED, message, 1)
    elif damage.unclosed:
        message = "the file ends behind the list of events, before its own end"
        tally.note("json_unclosed", NOTED, message, 1)
    elif file.cut_off:
        message = (
            "the compressed data is damaged, or ends, behind the end of the trace: its checksum "
            "does not prove what was read"
        )
        tally.note("gzip_damaged", NOTED, message, 1)
    if file.layers > 1:
        tally.note("gzip_twice", NOTED, "the file is compressed twice; both were unpacked", 1)
    if damage.has_more or file.has_more:
        message = "something else stands behind the end of the trace; it was not read"
        tally.note("json_trailing", NOTED, message, 1)
    if damage.lists > 1:
        message = f"lists of events beyond the first; all {damage.lists} were read"
        tally.note("json_duplicate_key", REPAIRED, message, damage.lists - 1)


def _source(name: str, file: TorchFile, head: dict[str, Any], job: DistributedJob) -> Source:
    base = head.get("baseTimeNanoseconds")
    usable = isinstance(base, int) and not isinstance(base, bool) and 0 <= base < 1 << 62
    return Source(
        name=name,
        format="torch-json",
        tool_version="XPU" if job.is_xpu else _toolkit(head),
        schema_version=str(head.get("schemaVersion", ""))[:40],
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        start_utc_ns=int(str(base)) if usable else NOT_RECORDED,
        duration_ns=job.duration_ns,
        rank=_of_job(head, "rank"),
        world_size=_of_job(head, "world_size"),
    )


def _of_job(head: dict[str, Any], key: str) -> int:
    """Return a number that tells which process of a distributed job this is."""
    info = head.get("distributedInfo")
    number = info.get(key) if isinstance(info, dict) else None
    usable = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 31
    return int(number) if usable and number is not None else NOT_RECORDED


def _toolkit(head: dict[str, Any]) -> str:
    """Return the version of the toolkit that recorded the device; the file has no other."""
    for key, name, major, minor in (
        ("cuda_runtime_version", "CUDA", 1_000, 10),
        ("hip_runtime_version", "HIP", 10_000_000, 100_000),
    ):
        number = head.get(key)
        if isinstance(number, int) and 0 < number < 1 << 31:
            return f"{name} {number // major}.{number % major // minor}"
    return ""
