"""The bytes of a torch profiler trace, plain or compressed, read ahead and bounded.

A few kilobytes of gzip can hold gigabytes. What comes out is counted while it comes out, so that
such a file is refused after the first part of it, not after all of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from collectors import input_file
from collectors.trace import EnvironmentFailedError, RefusedError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 4 << 20
SNIFFED_BYTES = 1 << 16
RATIO_VARIABLE, MAX_RATIO = "WHYSLOW_LIMIT_GZIP_RATIO", 200.0  # honest traces: 10 to 40
SIZE_VARIABLE, MAX_SIZE_GB = "WHYSLOW_LIMIT_JSON_GB", 4.0
ALWAYS_ALLOWED_BYTES = 64 << 20  # of any file: a small trace of one kernel packs very well

_JSON_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")


def begins_like_json(path: Path) -> bool:
    """Tell whether the file, unpacked if need be, begins with a JSON object or array."""
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, SNIFFED_BYTES)
        except zlib.error:
            return False
        if not head:  # an upload of which little is there yet
            return True
    return _JSON_BEGINS.match(head) is not None


class TorchFile:
    """One file being read once, from begin to end.

    Attributes:
        name: What messages call it.
        size_bytes: Size on disk.
        read_bytes: How much of that was read so far.
        cut_off: Set when the compressed data ends too early or is damaged from there on.
    """

    def __init__(self, path: Path) -> None:
        self.name = input_file.shown_name(path)
        self.size_bytes = path.stat().st_size
        self.read_bytes = 0
        self.cut_off = False
        self._path = path
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Digest of the file on disk; complete once every chunk was taken."""
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Yield the text; the next piece is read and unpacked while one is being used.

        Raises:
            RefusedError: It grows beyond a limit, or became unreadable.
        """
        pieces = self._pieces()
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(next, pieces, b"")
            while piece := ahead.result():
                ahead = thread.submit(next, pieces, b"")
                yield piece

    def _pieces(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                file.seek(0)
                yield from self._unpacked(file) if packed else self._raw(file)
        except OSError as error:
            raise RefusedError(
                f"{self.name}: became unreadable while it was read ({os.strerror(error.errno or 5)}"
                "). Open it again"
            ) from error

    def _raw(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.read_bytes += len(chunk)
            yield chunk

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        limit = _Limit(self.name, self.size_bytes)
        inflate = zlib.decompressobj(wbits=31)
        for packed in self._raw(file):
            rest = packed
            while rest and not self.cut_off:
                if inflate.eof:  # several members may follow each other
                    inflate = zlib.decompressobj(wbits=31)
                try:
                    piece = inflate.decompress(rest, CHUNK_BYTES)
                except zlib.error:
                    self.cut_off = True
                    break
                rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                limit.add(len(piece))
                if piece:
                    yield piece
        self.cut_off |= not inflate.eof


class _Limit:
    """Counts what comes out of a compressed file."""

    def __init__(self, name: str, packed_bytes: int) -> None:
        self._name, self._packed = name, packed_bytes
        self._ratio = _setting(RATIO_VARIABLE, MAX_RATIO)
        self._gigabytes = _setting(SIZE_VARIABLE, MAX_SIZE_GB)
        self._out = 0

    def add(self, size: int) -> None:
        self._out += size
        if self._out <= ALWAYS_ALLOWED_BYTES:
            return
        if self._out > self._ratio * self._packed:
            raise RefusedError(
                f"{self._name}: unpacks to more than {self._ratio:g} times its size "
                f"({RATIO_VARIABLE}), which no recording does. Record again"
            )
        if self._out > self._gigabytes * (1 << 30):
            raise RefusedError(
                f"{self._name}: unpacks to more than {self._gigabytes:g} GB ({SIZE_VARIABLE}). "
                "Set a higher limit, or record fewer steps"
            )


def _setting(variable: str, default: float) -> float:
    try:
        value = float(os.environ.get(variable) or default)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1e9:
        raise EnvironmentFailedError(f"{variable}: not a number above 0, at most 1e+09")
    return value
