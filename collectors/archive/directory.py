"""What a zip archive says it holds, checked before a single byte is unpacked.

The directory stands at the end of the file. Nothing of it is believed: members may not overlap,
lie outside of the file, bear the same name twice, or be named so that unpacking them elsewhere
would write outside of a folder. The layout is that of PKWARE's APPNOTE.TXT, 4.3 and 4.5.3.
"""

from __future__ import annotations

import itertools
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from collectors.errors import RefusedError
from collectors.input_file import shown_name
from common.text import one_line

MAX_MEMBERS = 1_000
MAX_DIRECTORY_BYTES = 4 << 20
MAX_NAME = 400  # characters; a path that no system takes is none that could be chosen
STORED, DEFLATED = 0, 8

_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_ENTRY_LAYOUT = struct.Struct("<4s6H3L5H2L")
_LOCAL_BYTES, _END_BYTES, _MAX_COMMENT = 30, 22, (1 << 16) - 1
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF  # stand where 64 bits are needed
_IS_UTF8, _IS_ENCRYPTED = 1 << 11, 1
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class ArchiveMember:
    """A file in an archive.

    Attributes:
        name: Its path in the archive, with forward slashes.
        packed_bytes: Its size in the archive.
        size_bytes: Its size as the archive states it.
        method: How it is packed: ``STORED``, ``DEFLATED``, or a way that is not read.
        checksum: CRC-32 of what it unpacks to.
        place: Where its packed bytes begin in the file.
        is_encrypted: Whether a password is needed.
    """

    name: str
    packed_bytes: int
    size_bytes: int
    method: int
    checksum: int
    place: int
    is_encrypted: bool = False


def members(path: Path) -> list[ArchiveMember]:
    """Return the files in the archive at ``path``, in the order of its directory.

    Raises:
        RefusedError: The directory is absent, damaged, too large, or one that nobody would
            write who only wants to pack files.
    """
    name = shown_name(path)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        directory, place, count = _directory(file, size, name)
        entries = [_with_data(file, entry, place, name) for entry in _entries(directory, name)]
    if len(entries) != count:
        raise _damaged(name)
    _check_overlaps(entries, name)
    # ``a//b`` and ``./a/b`` are one path; a folder may be named beside a file of its name.
    names = [(PurePosixPath(m.name), m.name.endswith("/")) for m in entries]
    if len(set(names)) < len(names):
        raise RefusedError(f"{name}: two files of the same name in the archive. Pack them again")
    return [m for m in entries if not m.name.endswith("/")]


def short_name(member_name: str) -> str:
    """Return a member's name for a message: printable, its end kept."""
    return one_line(member_name[-_SHOWN:], _SHOWN)


def _damaged(name: str) -> RefusedError:
    return RefusedError(
        f"{name}: a zip archive that is cut off or damaged: its directory, at the end, cannot be "
        "read. Copy or download it again"
    )


def _directory(file: BinaryIO, size: int, name: str) -> tuple[bytes, int, int]:
    """Return the bytes of the directory, where they begin, and how many entries it states."""
    tail_at = max(0, size - _END_BYTES - _MAX_COMMENT)
    file.seek(tail_at)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_BYTES:
        raise _damaged(name)
    count, length, place = struct.unpack_from("<HLL", tail, end + 10)
    if count == _IN_EXTRA_16 or _IN_EXTRA_32 in (length, place):
        count, length, place = _end_64(file, tail_at + end, (count, length, place))
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise RefusedError(
            f"{name}: a zip archive of {count:,} files; the limit is {MAX_MEMBERS:,}. Unpack it "
            "and open the recording"
        )
    if place + length > tail_at + end:
        raise _damaged(name)
    file.seek(place)
    return file.read(length), place, count


def _end_64(file: BinaryIO, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return count, length and place of a directory that needs 64 bits; as they were without."""
    file.seek(max(0, end - 20))
    locator = file.read(20)
    if len(locator) < 20 or not locator.startswith(_LOCATOR_64):
        return plain
    (place,) = struct.unpack_from("<Q", locator, 8)
    if place > end:
        return plain
    file.seek(place)
    record = file.read(56)
    if len(record) < 56 or not record.startswith(_END_64):
        return plain
    count, length, begin = struct.unpack_from("<QQQ", record, 32)
    return count, length, begin


def _entries(directory: bytes, name: str) -> Iterator[tuple[ArchiveMember, int]]:
    """Yield what the directory says of each member, with the place of its own header."""
    at = 0
    while at < len(directory):
        if len(directory) < at + _ENTRY_LAYOUT.size or not directory.startswith(_ENTRY, at):
            raise _damaged(name)
        fields = _ENTRY_LAYOUT.unpack_from(directory, at)
        flags, method, checksum, packed, unpacked = (fields[i] for i in (3, 4, 7, 8, 9))
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        attributes, header = fields[15:17]
        at += _ENTRY_LAYOUT.size
        raw = directory[at : at + name_bytes]
        extra = directory[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if at > len(directory):
            raise _damaged(name)
        unpacked, packed, header = _in_64_bits(extra, (unpacked, packed, header))
        member = ArchiveMember(
            name=_checked_name(raw, flags, name),
            packed_bytes=packed,
            size_bytes=unpacked,
            # A link is a text that names another file: nothing to read.
            method=-1 if stat.S_ISLNK(attributes >> 16) else method,
            checksum=checksum,
            place=0,
            is_encrypted=bool(flags & _IS_ENCRYPTED),
        )
        yield member, header


def _in_64_bits(extra: bytes, numbers: tuple[int, int, int]) -> list[int]:
    """Return size, packed size and place; of 64 bits from the extra field where they need it."""
    at, wide = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    result = []
    for number in numbers:
        if number == _IN_EXTRA_32 and len(wide) >= 8:
            number, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
        result.append(number)
    return result


def _checked_name(raw: bytes, flags: int, archive: str) -> str:
    """Return the name of a member; refuse one that leads out of the folder it is unpacked in."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = raw.decode("utf-8" if flags & _IS_UTF8 else "cp437", "replace")
    name = name.replace("\\", "/")
    parts = name.split("/")
    if name.startswith("/") or name[1:2] == ":" or ".." in parts:
        raise RefusedError(
            f"{archive}: a file in the archive is named {short_name(name)}, which lies outside of "
            "the archive. Pack the recording itself"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in name) or not name or len(name) > MAX_NAME:
        raise RefusedError(
            f"{archive}: a file in the archive has a name that is no file name. Pack the "
            "recording itself"
        )
    return name


def _with_data(
    file: BinaryIO, entry: tuple[ArchiveMember, int], directory_at: int, name: str
) -> ArchiveMember:
    """Return the member with the place of its data, which its own header tells."""
    member, header_at = entry
    if header_at + _LOCAL_BYTES > directory_at:
        raise _damaged(name)
    file.seek(header_at)
    header = file.read(_LOCAL_BYTES)
    if len(header) < _LOCAL_BYTES or not header.startswith(_LOCAL):
        raise _damaged(name)
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
    place = header_at + _LOCAL_BYTES + name_bytes + extra_bytes
    if place + member.packed_bytes > directory_at:
        raise _damaged(name)
    return ArchiveMember(**{**vars(member), "place": place})


def _check_overlaps(entries: list[ArchiveMember], name: str) -> None:
    """Refuse members that share bytes of the file, as only an archive made to explode does."""
    in_order = sorted(entries, key=lambda m: m.place)
    for first, second in itertools.pairwise(in_order):
        if first.place + first.packed_bytes > second.place - _LOCAL_BYTES:
            raise RefusedError(
                f"{name}: files in the archive overlap each other, so it would unpack to far more "
                "than it holds. Pack the recording again"
            )
