"""Recordings with a few bytes changed: each is read or refused, and nothing else ever happens."""

import functools
import random

import pytest

from tests.hostile.nsys_files import export
from tests.hostile.other_files import archive, counters, page
from tests.hostile.outcomes import HostileFile, outcome_of, write_content
from tests.hostile.torch_files import packed_trace, trace

EACH = 334  # of six formats: 2,004 in all
FORMATS = {
    "a.sqlite": export,
    "a.json": trace,
    "a.json.gz": packed_trace,
    "a.csv": page,
    "a.ncu-rep": counters,
    "a.zip": archive,
}


def _mutant(content: bytes, seed: int) -> bytes:
    """Return the content with one to five places overwritten, cut out or put in twice."""
    chance, raw = random.Random(seed), bytearray(content)
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(raw))
        length = chance.choice((1, 1, 1, 2, 4, 8, 64))
        how = chance.randrange(6)
        if how < 3:
            raw[place] = chance.randrange(256)
        elif how == 3:
            raw[place : place + length] = chance.randbytes(length)
        elif how == 4:
            del raw[place : place + length]
        else:
            raw[place:place] = raw[place : place + length]
        if not raw:
            return b"\0"
    return bytes(raw)


@pytest.mark.hostile_mutants
@pytest.mark.parametrize("seed", range(EACH))
@pytest.mark.parametrize("file_name", FORMATS)
def test_a_mutant_is_read_or_refused(file_name, seed, monkeypatch):
    content = _mutant(FORMATS[file_name](), seed)
    write = functools.partial(write_content, content)
    outcome = outcome_of(HostileFile(f"{file_name} {seed}", file_name, write), monkeypatch)
    assert outcome.startswith(("opens: ", "refused 2: ")), outcome
