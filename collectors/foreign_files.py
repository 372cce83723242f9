"""Files that look like a recording, or lie beside one, and are none: what each is, and a way out.

Nothing here decides what is read: a collector does. What no collector recognizes is looked at once
more, so that its owner learns what the file is and which command makes a recording of it.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

from common.text import printable

HEAD_BYTES = 1 << 16
UNPACKED_BYTES = 4 << 20  # of an archive, to see what it holds
MAX_NAMED = 3  # members of an archive in a message
MAX_MEMBERS = 10_000

_RECORD = "Record with: nsys profile -t cuda,nvtx,osrt -o report PROGRAM"
_EXPORT = "Export it as SQLite: nsys export --type sqlite REPORT.nsys-rep"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NOT_FETCHED = (
    "only the Git LFS pointer to a recording, which was not fetched. Run in its repository: git "
    "lfs pull"
)
_PACKED = {  # how files begin that only need unpacking
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
}
_OTHER_FORMATS = {
    LFS_POINTER: NOT_FETCHED,
    b"PAR1": f"a Parquet file, as `nsys export --type parquetdir` writes. {_EXPORT}. A table of a "
    "job's operations goes to: whyslow fleet",
    b"ARROW1": f"an Arrow file, as `nsys export --type arrow` writes. {_EXPORT}",
    b"\xff\xff\xff\xff": f"an Arrow stream, as `nsys export --type arrow` writes. {_EXPORT}",
    b"\x89HDF\r\n": f"an HDF5 file, as `nsys export --type hdf` writes. {_EXPORT}",
}
_TEXTS = (  # how texts of other tools are told, in the order in which they are looked for
    (
        re.compile(rb"^==\d+==.*NVPROF", re.MULTILINE),
        f"a text that nvprof printed: sums, without times. {_RECORD}",
    ),
    (
        re.compile(rb"^\W*Time ?\(%\)\W+Total Time", re.MULTILINE),
        "a table that `nsys stats` printed: sums, without times. Open the report that it was made "
        "from (.nsys-rep, or its .sqlite)",
    ),
    (
        re.compile(rb"^[^\n]{0,200}\b(?:Duration|T?Avg) \((?:[num]?s|MB)\)", re.MULTILINE),
        "a table that `nsys stats` printed. Open the report that it was made from (.nsys-rep, or "
        "its .sqlite)",
    ),
)
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_TABLE_FILES = ("*.parquet", "*.arrow")
_RECORDINGS = re.compile(r"\.(?:sqlite|nsys-rep|qdrep|ncu-rep|json|json\.gz|csv)$", re.IGNORECASE)


def is_zip(path: Path) -> bool:
    """Tell whether the file at ``path`` begins as a zip archive does, be it an empty one."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def is_lfs_pointer(path: Path) -> bool:
    """Tell whether ``path`` holds what Git LFS leaves in place of a file that was not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def folder_trouble(path: Path) -> str:
    """Return what is wrong with a folder in place of a file, and the way out."""
    if any(next(path.glob(pattern), None) for pattern in _TABLE_FILES):
        return f"a folder of tables, as `nsys export --type parquetdir` writes. {_EXPORT}"
    return "a folder, not a recording. Give the path of a file in it"


def file_trouble(path: Path) -> str:
    """Return what a file is that no collector recognizes, and the way out; empty when unknown."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if _is_tar(head):
        return f"a tar archive{_tar_members(path, b'')}. Unpack it first: tar xf FILE"
    for magic, (kind, program) in _PACKED.items():
        if head.startswith(magic):
            inner = _gunzipped(path) if kind == "gzip" else b""
            if _is_tar(inner):
                members = _tar_members(path, inner)
                return f"a tar archive{members}, compressed. Unpack it first: tar xf FILE"
            return f"compressed with {kind}. Unpack it first: {program} FILE"
    for magic, trouble in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return trouble
    return next((trouble for pattern, trouble in _TEXTS if pattern.search(head)), "")


def _is_tar(head: bytes) -> bool:
    return head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC)


def _gunzipped(path: Path) -> bytes:
    """Return the first bytes of a compressed file; none when they are damaged."""
    with path.open("rb") as file:
        packed = file.read(UNPACKED_BYTES)
    try:
        return zlib.decompressobj(wbits=31).decompress(packed, UNPACKED_BYTES)
    except zlib.error:
        return b""


def _tar_members(path: Path, unpacked: bytes) -> str:
    """Name what a tar archive holds, as far as its first bytes tell."""
    if not unpacked:
        with path.open("rb") as file:
            unpacked = file.read(UNPACKED_BYTES)
    import tarfile  # not at the top: a recording that was opened before is answered without

    names: list[str] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:  # until the bytes end
                if member.isfile():
                    names.append(member.name)
                if len(names) >= MAX_MEMBERS:
                    break
    except (tarfile.TarError, EOFError, ValueError):
        pass
    return members_text(names)


def members_text(names: list[str]) -> str:
    """Say what is inside an archive, recordings first; empty when nothing is."""
    if not names:
        return ""
    names.sort(key=lambda name: _RECORDINGS.search(name) is None)
    named = ", ".join(printable(name.rpartition("/")[2], "")[:40] for name in names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f" with {named}{more} inside"
