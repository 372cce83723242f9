"""Names of an export by number, kept only where an event refers to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from collectors.nsys.tally import NOTED, REPAIRED, Note
from collectors.schema import NOT_RECORDED, Array
from collectors.sqlite_file import SqliteFile, text_of
from collectors.trace import TraceWriter
from common.text import CONTROLS, storable

MAX_TEXT = 65_536  # characters of one name; 5,000 were seen


class NsysNames:
    """Names by number. Only names that an event refers to are kept: the rest may be private.

    A recorder's number stays as it is; a text of our own gets a negative one, below -1.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._used: set[int] = set()
        self._own: dict[str, int] = {}
        self._canonical: dict[int, int] = {}
        self._missing: set[int] = set()
        self._cut = 0

    def use(self, ids: Array) -> Array:
        """Mark ``ids`` as used and return them."""
        self._used.update(pd.unique(ids).tolist())
        return ids

    def intern(self, text: str) -> int:
        """Return the number of a text of our own."""
        if len(text) > MAX_TEXT:
            self._cut += 1
            text = text[:MAX_TEXT]
        return self._own.setdefault(text, -2 - len(self._own))

    def canonical(self, ids: Array, plain: Callable[[str], str]) -> Array:
        """Return one number for all of ``ids`` whose ``plain`` name is the same."""
        codes, unique = pd.factorize(ids)
        mapped = []
        for number in unique.tolist():
            if number == NOT_RECORDED:
                mapped.append(number)
                continue
            if number not in self._canonical:
                self._canonical[number] = self.intern(plain(self._look_up(number)))
            mapped.append(self._canonical[number])
        result: Array = np.array(mapped, dtype=np.int64)[codes]
        return result

    def text_or_id(self, texts: pa.Array, ids: Array) -> Array:
        """Return the number of each inline text, else of the text that the id names."""
        if texts.null_count == len(texts):
            return self.use(ids)
        encoded = texts.dictionary_encode()
        raw = encoded.dictionary.to_pylist()
        numbers = np.array([self.intern(self._decode(t)) for t in raw], dtype=np.int64)
        codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        inline = texts.is_valid().to_numpy(zero_copy_only=False)
        self.use(ids[~inline])
        return np.where(inline, numbers[codes], ids)

    def write(self, writer: TraceWriter, note: Note) -> None:
        """Write every name in use; names that the export lacks are counted."""
        texts: dict[int, str] = {number: text for text, number in self._own.items()}
        used = {n for n in self._used if n >= 0}
        repeated = 0
        for number, value in self._file.rows("SELECT id, value FROM StringIds"):
            if number in used and isinstance(number, int):
                repeated += number in texts
                self._missing |= {number} if value is None and number not in texts else set()
                text = text_of(value)
                self._cut += len(text) > MAX_TEXT
                texts.setdefault(number, text[:MAX_TEXT])
        absent = used - texts.keys()
        self._missing |= absent
        broken = sum("\ufffd" in text for text in texts.values())
        odd = sum(CONTROLS.search(text) is not None for text in texts.values())
        for count, code, effect, message in (
            (len(self._missing), "string_missing", REPAIRED, "names that the export lacks"),
            (repeated, "string_duplicate", REPAIRED, "names given twice; the first counts"),
            (broken, "text_not_utf8", REPAIRED, "names with bytes that are not UTF-8, now U+FFFD"),
            (self._cut, "text_truncated", REPAIRED, f"names cut to {MAX_TEXT:,} characters"),
            (odd, "text_control_chars", NOTED, "names that hold control characters"),
        ):
            if count:
                note("StringIds", (code, effect, message), count)
        texts |= {number: _missing_name(number) for number in absent}
        writer.write(
            "strings",
            {
                "id": np.array(list(texts), dtype=np.int64),
                "value": pa.array([storable(t) for t in texts.values()], pa.string()),
            },
        )

    def _look_up(self, number: int) -> str:
        rows = self._file.rows("SELECT value FROM StringIds WHERE id = ? LIMIT 1", number)
        if not rows or rows[0][0] is None:
            self._missing.add(number)
        return text_of(rows[0][0]) if rows else _missing_name(number)

    def _decode(self, raw: bytes) -> str:
        return raw.decode("utf-8", "replace")


def _missing_name(number: int) -> str:
    return f"(name {number} is missing)"
