"""Takes a JSON trace apart while it is read: a few values of its head, and batches of events.

A batch is cut where one event seems to end and the next to begin, and decoded as an array. If the
cut was wrong (such text may stand inside a name), that is no valid array: then the events of the
batch are told apart character by character, and what is damaged among them is left out. So the
fast way can be taken without trusting the layout of the file.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from collectors.errors import RefusedError
from collectors.torch_profiler.events import Event, decode, decode_leniently
from collectors.torch_profiler.file import TorchFile

BATCH_BYTES = 8 << 20
MAX_MEMBER_BYTES = 64 << 20  # of one event or one value: the largest seen has 40 kB
MAX_DEPTH = 200  # of arrays and objects in each other; traces have 5
TAIL_BYTES = 1 << 16  # at the end of a batch, where its last event is looked for
_CUTS_TRIED = 2

# The first alternative eats whole strings; a quote alone is one whose end is not there yet.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)
_CUT = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACE = re.compile(rb"[\s,]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]*")

_KEPT = {
    *("schemaVersion", "deviceProperties", "distributedInfo", "baseTimeNanoseconds"),
    *("otherData", "cuda_runtime_version", "hip_runtime_version"),
}
_MAX_KEPT_BYTES = 4 << 20


@dataclass
class Damage:
    """What could not be read.

    Attributes:
        skipped: Members of the list of events that are no events.
        lost_bytes: Length of what stands behind the last whole event of a file that ends early;
            -1 when it does not.
        unclosed: Whether the file ends behind the list, but before the object around it is closed.
        has_more: Whether more than space stands behind the end of what the file holds.
        lists: Lists of events in the file; one, unless a key stands there twice.
        open_array: Whether the file is an array of events without its end, which is allowed.
    """

    skipped: int = 0
    lost_bytes: int = -1
    unclosed: bool = False
    has_more: bool = False
    lists: int = 0
    open_array: bool = False


@dataclass
class _Members:
    """Members of an array that were told apart: where they are, and where the text goes on."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    closed: bool = False
    skipped: int = 0


class EventStream:
    """One trace being read.

    Attributes:
        head: The values beside the events that are kept; complete when all events were taken.
        keys: The first names in the file's outermost object, for messages.
        damage: What could not be read; complete at the same time.
    """

    def __init__(self, file: TorchFile) -> None:
        self.head: dict[str, Any] = {}
        self.keys: list[str] = []
        self.damage = Damage()
        self._name = file.name
        self._file = file
        self._chunks = file.chunks()
        self._text = b""
        self._at = 0
        self._ended = False

    def batches(self) -> Iterator[tuple[list[Event], bytes | list[bytes]]]:
        """Yield events, and what they were decoded from: an array, or each one's text if repaired.

        Raises:
            RefusedError: The file is no JSON, nested too deeply, or holds something too large.
        """
        while len(self._text) < len(codecs.BOM_UTF8) and self._more():
            pass
        if self._text.startswith(codecs.BOM_UTF8):
            self._at = len(codecs.BOM_UTF8)
        first = self._next()
        if first == b"[":
            self._at += 1
            yield from self._events()
            self.damage.open_array = self.damage.lost_bytes == 0
        elif first == b"{":
            self._at += 1
            yield from self._members_of_object()
        self._go_past_the_rest()

    def _go_past_the_rest(self) -> None:
        """Read to the end of the file, so that its digest is that of all of it."""
        if self.damage.lost_bytes >= 0 or self.damage.unclosed:
            return
        while self._next():
            self.damage.has_more = True
            self._at = len(self._text)

    # --- the outermost object -------------------------------------------------------------

    def _members_of_object(self) -> Iterator[tuple[list[Event], bytes | list[bytes]]]:
        while (first := self._next()) == b'"':
            key = self._string()
            if key is None:
                break
            if len(self.keys) < 8:
                self.keys.append(key[:40])
            if self._next() == b":":  # which a later piece of the file may begin with
                self._at += 1
            if key == "traceEvents" and self._next() == b"[":
                self._at += 1
                yield from self._events()
                if self.damage.lost_bytes >= 0:
                    return
            elif not self._take_value(key):
                break
        else:
            self.damage.unclosed |= first != b"}"
            self._at += 1
            return
        self.damage.unclosed = True

    def _string(self) -> str | None:
        while True:
            match = _STRING.match(self._text, self._at)
            if match:
                self._at = match.end()
                return match[0][1:-1].decode("utf-8", "replace")
            if not self._more():
                return None

    def _take_value(self, key: str) -> bool:
        """Read or skip one value; False when the file ends in it."""
        if self._next() not in (b"{", b"[", b'"'):
            while (scalar := _SCALAR.match(self._text, self._at)) is not None:
                if scalar.end() < len(self._text) or not self._more():
                    break
            raw = scalar[0] if scalar else b""
            self._at += len(raw)
            self._keep(key, raw)
            return bool(raw)
        raw_value = self._nested(keep=key in _KEPT)
        if raw_value is None:
            return False
        self._keep(key, raw_value)
        return True

    def _nested(self, *, keep: bool) -> bytes | None:
        """Go past an object, array or string; return its text if it is kept and not too long."""
        depth, kept = 0, [b""]
        while True:
            begin = self._at
            for token in _TOKEN.finditer(self._text, self._at):
                mark = token[0]
                if mark == b'"':
                    self._at = token.start()
                    break
                self._at = token.end()
                depth += (mark in (b"{", b"[")) - (mark in (b"}", b"]"))
                self._check_depth(depth)
                if depth <= 0:
                    kept.append(self._text[begin : self._at])
                    text = b"".join(kept)
                    return text if keep and len(text) <= _MAX_KEPT_BYTES else b""
            else:
                self._at = len(self._text)  # numbers and words of any length
            if keep and sum(map(len, kept)) <= _MAX_KEPT_BYTES:
                kept.append(self._text[begin : self._at])
            if not self._more():
                return None

    def _keep(self, key: str, raw: bytes) -> None:
        if key in _KEPT and raw:
            try:
                self.head[key] = json.loads(raw.decode("utf-8", "replace"), strict=False)
            except (ValueError, RecursionError):
                return

    # --- the list of events ---------------------------------------------------------------

    def _events(self) -> Iterator[tuple[list[Event], bytes | list[bytes]]]:
        self.damage.lists += 1
        while True:
            while len(self._text) - self._at < BATCH_BYTES and self._more():
                pass
            self._next()
            if (fast := self._fast_batch()) is not None:
                yield fast
                continue
            members = self._tell_apart()
            self.damage.skipped += members.skipped
            if members.spans:
                yield self._decode_each(members)
            self._at = members.end
            if members.closed:
                return
            if not members.spans and not self._more():
                self.damage.lost_bytes = len(self._text) - self._at
                return

    def _fast_batch(self) -> tuple[list[Event], bytes] | None:
        """Decode up to the last event that seems to end; None when that was no whole array."""
        cuts = list(_CUT.finditer(self._text, max(self._at, len(self._text) - TAIL_BYTES)))
        for cut in reversed(cuts[-_CUTS_TRIED:]):
            array = b"[%b]" % self._text[self._at : cut.start() + 1]
            if (events := decode(array)) is not None:
                self._at = cut.end()
                return events, array
        return None

    def _tell_apart(self) -> _Members:
        """Find the members of the array in what was read so far, whatever is in them."""
        text, members = self._text, _Members(end=self._at)
        depth = begin = 0
        for token in _TOKEN.finditer(text, self._at):
            mark = token[0]
            if mark == b'"':
                break
            if depth == 0:
                # What stands between members but is neither a comma nor space is one of its own.
                between = text[members.end : token.start()].split(b",")
                members.skipped += sum(bool(part.strip()) for part in between)
                members.end = token.start()
                if mark == b"]":
                    members.end, members.closed = token.end(), True
                    return members
                begin = token.start()
            depth += (mark in (b"{", b"[")) - (mark in (b"}", b"]"))
            self._check_depth(depth)
            if depth <= 0:
                depth = 0
                members.end = token.end()
                if text[begin : begin + 1] == b"{":
                    members.spans.append((begin, token.end()))
                else:
                    members.skipped += 1
        return members

    def _decode_each(self, members: _Members) -> tuple[list[Event], bytes | list[bytes]]:
        texts = [self._text[a:b] for a, b in members.spans]
        array = b"[%b]" % b",".join(texts)
        if (events := decode(array)) is not None:
            return events, array
        repaired, used = [], []
        for text in texts:
            one = decode(b"[%b]" % text)
            event = one[0] if one else decode_leniently(text)
            if event is None:
                self.damage.skipped += 1
            else:
                repaired.append(event)
                used.append(text)
        return repaired, used

    # --- the text -------------------------------------------------------------------------

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise RefusedError(
                f"{self._name}: arrays and objects nested more than {MAX_DEPTH} deep, which no "
                "trace has. Export the trace again"
            )

    def _next(self) -> bytes:
        """Go past space and commas; return the character there, empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at : self._at + 1]
            if not self._more():
                return b""

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        chunk = next(self._chunks, b"")
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk
        self._at = 0
        if len(self._text) > MAX_MEMBER_BYTES + BATCH_BYTES:
            raise RefusedError(
                f"{self._name}: one event or value is larger than {MAX_MEMBER_BYTES >> 20} MB, "
                "which no trace has. Export the trace again"
            )
        return bool(chunk)
