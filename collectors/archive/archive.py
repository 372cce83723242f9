"""Zip archives with recordings inside: the one that is meant is unpacked and read as it is.

An archive with one recording is that recording. Of several, one is named as if the archive were a
folder: ``runs.zip/rank0.json``. Only the recording itself is unpacked, into a private folder under
a name of ours, and no further than a limit; nothing is unpacked where a name in the archive says.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import collectors
from collectors import input_file
from collectors.archive.directory import DEFLATED, STORED, ArchiveMember, members, short_name
from collectors.errors import RefusedError, SeveralRecordingsError
from collectors.foreign_files import is_zip, members_text
from collectors.trace import Trace
from collectors.unpacking import SizeSetting, UnpackingLimit
from common.files import file_holding

KNOWN_AS = "zip archives (.zip)"

SUFFIXES = ()
SHARED_SUFFIXES = (".zip",)

MAX_SIZE = SizeSetting("WHYSLOW_LIMIT_ZIP_GB", 16.0)
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16  # of a member: enough to tell whether it is a recording
UNPACKING_SHARE = 0.2  # of the time from archive to trace
NAMED = 3  # recordings in a message
MAX_CHOICES = 200  # recordings that a reader can choose among
# What lies beside a recording: of macOS, under the files' own names, and of a capture of ours.
_BESIDE = re.compile(
    r"__MACOSX/|(.*/)?(\._[^/]*|telemetry\.sqlite|state\.json|[^/]*\.workload\.json)$"
)


def recognizes(path: Path) -> bool:
    """Tell whether ``path`` is a zip archive, or names a file in one."""
    return is_zip(file_holding(path))


def may_begin(path: Path) -> bool:
    """Tell whether the first bytes of an upload can become an archive."""
    with path.open("rb") as file:
        return b"PK\x03\x04".startswith(file.read(4))


def read(path: Path, root: Path, on_progress: Callable[[float, str], None]) -> Trace:
    """Read the recording in an archive into the cache folder ``root``; see ``open_trace``.

    Raises:
        RefusedError: The archive cannot be trusted, or holds no recording.
        SeveralRecordingsError: It holds several, and ``path`` names none of them.
    """
    archive = file_holding(path)
    before = input_file.look_at(archive)
    name = input_file.shown_name(archive)
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root / "tmp"))
    try:
        inside = members(archive)
        member = (
            _chosen(path.relative_to(archive), inside, name)
            if path != archive
            else _only_recording(archive, inside, folder)
        )
        limit = UnpackingLimit(f"{name}: {short_name(member.name)}", member.packed_bytes, MAX_SIZE)
        limit.add(member.size_bytes)
        input_file.check_space(member.size_bytes, root)
        on_progress(0.0, "unpacking")
        file = _unpacked(archive, member, folder)
        input_file.check_unchanged(archive, before)

        def report(share: float, doing: str) -> None:
            on_progress(UNPACKING_SHARE + (1 - UNPACKING_SHARE) * share, doing)

        try:
            return collectors.open_trace(file, root, on_progress=report)
        except RefusedError as error:
            raise RefusedError(f"{name}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _chosen(place: Path, inside: list[ArchiveMember], name: str) -> ArchiveMember:
    """Return the member at this place in the archive."""
    parts = place.parts
    member = next((m for m in inside if PurePosixPath(m.name).parts == parts), None)
    if member is None:
        raise RefusedError(
            f"{name}: holds no {short_name(str(place))}; it is a zip archive"
            f"{members_text([m.name for m in inside])}. Name one of its files"
        )
    return member


def _only_recording(archive: Path, inside: list[ArchiveMember], folder: Path) -> ArchiveMember:
    """Return the one member that is a recording."""
    name = input_file.shown_name(archive)
    recordings = [m for m in inside if _may_be_recording(archive, m, folder)]
    # A report beside its own export is the same recording, and the export needs no nsys.
    exported = _exported({m.name for m in recordings})
    recordings = [m for m in recordings if m.name not in exported]
    if len(recordings) == 1:
        return recordings[0]
    if not recordings:
        text = members_text([m.name for m in inside]) or " without any file"
        raise RefusedError(
            f"{name}: a zip archive{text}, and no recording that whyslow reads. Pack a recording, "
            "or give its path"
        )
    choices = [m.name for m in recordings[:MAX_CHOICES]]
    first = ", ".join(short_name(choice) for choice in choices[:NAMED])
    more = f" and {len(recordings) - NAMED:,} more" if len(recordings) > NAMED else ""
    raise SeveralRecordingsError(
        f"{name}: {len(recordings):,} recordings in one archive: {first}{more}. Name the one to "
        f"open: {name}/{short_name(choices[0])}",
        choices,
    )


def _exported(names: set[str]) -> set[str]:
    """Return the reports whose SQLite export is among ``names``, too."""
    return {
        report
        for report in names
        for ending in (".nsys-rep", ".qdrep")
        if report.endswith(ending) and report.removesuffix(ending) + ".sqlite" in names
    }


def _may_be_recording(archive: Path, member: ArchiveMember, folder: Path) -> bool:
    """Tell whether a member begins as a recording does; an archive in an archive is none."""
    if not member.size_bytes or _BESIDE.match(member.name):
        return False
    if member.is_encrypted or member.method not in (STORED, DEFLATED):
        return Path(member.name).suffix in collectors.suffixes()  # its reader says what is wrong
    head = folder / f"head-{_safe_name(member.name)}"
    try:
        with head.open("wb") as file:
            file.write(b"".join(_content(archive, member, HEAD_BYTES)))
        is_alone = not any(c.no_recording(Path(member.name)) for c in collectors.companions())
        return is_alone and not is_zip(head) and collectors.is_recording(head)
    except zlib.error:
        return True  # damaged, which its reader tells better
    finally:
        head.unlink(missing_ok=True)


def _unpacked(archive: Path, member: ArchiveMember, folder: Path) -> Path:
    """Write a member to a file of its own and return that file.

    Raises:
        RefusedError: It is locked or packed in a way that is not read, or it is damaged.
    """
    name, label = input_file.shown_name(archive), short_name(member.name)
    if member.is_encrypted:
        raise RefusedError(f"{name}: {label} needs a password. Unpack it first: unzip FILE")
    if member.method not in (STORED, DEFLATED):
        raise RefusedError(
            f"{name}: {label} is a link, or packed in a way that is not read (method "
            f"{member.method}). Unpack it first: unzip FILE"
        )
    target = folder / _safe_name(member.name)
    checksum = size = 0
    try:
        with target.open("wb") as file:
            for piece in _content(archive, member, member.size_bytes):
                checksum, size = zlib.crc32(piece, checksum), size + len(piece)
                file.write(piece)
    except zlib.error:
        checksum = -1
    if (checksum, size) != (member.checksum, member.size_bytes):
        raise RefusedError(
            f"{name}: {label} is damaged: it unpacks to {size:,} of {member.size_bytes:,} bytes, "
            "or its checksum is wrong. Copy or download the archive again"
        )
    return target


def _content(archive: Path, member: ArchiveMember, most: int) -> Iterator[bytes]:
    """Yield what a member unpacks to, in pieces, and never more than ``most`` bytes."""
    inflate = zlib.decompressobj(wbits=-15) if member.method == DEFLATED else None
    packed, out = member.packed_bytes, 0
    with archive.open("rb") as file:
        file.seek(member.place)
        while packed and out < most:
            chunk = file.read(min(CHUNK_BYTES, packed))
            if not chunk:
                return
            packed -= len(chunk)
            while chunk and out < most:
                if inflate is None:
                    piece, chunk = chunk[: most - out], b""
                else:
                    piece = inflate.decompress(chunk, min(CHUNK_BYTES, most - out))
                    chunk = inflate.unconsumed_tail
                out += len(piece)
                yield piece
                if inflate is not None and inflate.eof:
                    return  # zlib would gather what follows, and hand it back again and again


def _safe_name(name: str) -> str:
    """Return a file name of ours for a member: its own, of plain letters and bounded length."""
    last = PurePosixPath(name).name
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in last)
    return plain[-80:].lstrip(".-") or "recording"
