"""The bytes of a torch profiler trace, plain or compressed, read ahead and bounded.

A few kilobytes of gzip can hold gigabytes. What comes out is counted while it comes out, so that
such a file is refused after the first part of it, not after all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from collectors import input_file
from collectors.errors import RefusedError
from collectors.unpacking import SizeSetting, UnpackingLimit

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 4 << 20
PACKED_BYTES = 1 << 14  # unpacked at a time; of the last of them, byte by byte if damaged
SNIFFED_BYTES = 1 << 16
MAX_LAYERS = 2  # of compression: a server may pack once more what was packed already
MAX_SIZE = SizeSetting("WHYSLOW_LIMIT_JSON_GB", 4.0)

_JSON_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")


class _Inflate(Protocol):
    """What unpacks; the type of zlib's own object has no public name."""

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """Return what comes out of ``data``."""


def begins_like_json(path: Path) -> bool:
    """Tell whether the file, unpacked if need be, begins with a JSON object or array."""
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    for _ in range(MAX_LAYERS):
        if not head.startswith(GZIP_MAGIC):
            break
        head, damaged = _first_text(head)
        if not head:  # an upload of which little is there yet
            return not damaged
    return _JSON_BEGINS.match(head) is not None


def _first_text(packed: bytes) -> tuple[bytes, bool]:
    """Return what the begin of a compressed file unpacks to, and whether that ended in damage."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        return inflate.copy().decompress(packed, SNIFFED_BYTES), False
    except zlib.error:
        return _before_damage(inflate, packed[:PACKED_BYTES]), True


def _before_damage(inflate: _Inflate, packed: bytes) -> bytes:
    """Return all that comes out before ``packed`` turns out to be damaged."""
    text = bytearray()
    with contextlib.suppress(zlib.error):
        for place in range(len(packed)):
            text += inflate.decompress(packed[place : place + 1])
    return bytes(text)


class TorchFile:
    """One file being read once, from begin to end.

    Attributes:
        name: What messages call it.
        size_bytes: Size on disk.
        read_bytes: How much of that was read so far.
        cut_off: Set when the compressed data ends too early or is damaged from there on.
        has_more: Set when something that is not compressed stands behind what is.
        layers: How often the file is compressed.
    """

    def __init__(self, path: Path) -> None:
        self.name = input_file.shown_name(path)
        self.size_bytes = path.stat().st_size
        self.read_bytes = 0
        self.cut_off = False
        self.has_more = False
        self.layers = 0
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
                chunks = self._raw(file)
                while True:
                    first = next(chunks, b"")
                    chunks = itertools.chain((first,), chunks)
                    if self.layers == MAX_LAYERS or not first.startswith(GZIP_MAGIC):
                        break
                    self.layers += 1
                    chunks = self._unpacked(chunks)
                yield from chunks
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

    def _unpacked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the text in pieces of a bounded size, however small its compressed parts are."""
        pieces, size = [], 0
        for piece in self._inflated(chunks):
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
        if size:
            yield b"".join(pieces)

    def _inflated(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        limit = UnpackingLimit(self.name, self.size_bytes, MAX_SIZE)
        inflate, is_first = zlib.decompressobj(wbits=31), True
        begun = False  # whether anything came out of the part that is being unpacked
        for rest in _small_parts(chunks):
            while rest and not self.cut_off and not self.has_more:
                if inflate.eof:  # several parts may follow each other
                    rest = rest.lstrip(b"\0")  # and zeros may fill the rest, as tape drives write
                    if not rest:
                        break
                    inflate, is_first, begun = zlib.decompressobj(wbits=31), False, False
                before = inflate.copy()
                try:
                    piece = inflate.decompress(rest, CHUNK_BYTES)
                    rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                except zlib.error:
                    piece = _before_damage(before, rest)
                    self.cut_off = is_first or begun or bool(piece)
                    self.has_more = not self.cut_off
                limit.add(len(piece))
                begun |= bool(piece)
                if piece:
                    yield piece
        self.cut_off |= not inflate.eof and not self.has_more


def _small_parts(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for place in range(0, len(chunk), PACKED_BYTES):
            yield chunk[place : place + PACKED_BYTES]
