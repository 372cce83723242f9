"""Answers on a terminal: wrapped and coloured for a reader, plain for a pipe, harmless for both."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from library import cache
from reports.document import (
    Bar,
    Cell,
    Document,
    DocumentPart,
    DocumentTable,
    Figure,
    Section,
    Sentence,
    TableColumn,
)
from reports.terminal import EIGHTHS, ROW_BAR, Screen, terminal_text
from tests import scenarios

ROOT = Path(__file__).parents[1]
ESCAPE = re.compile(r"\x1b\[[\d;]*m")
COMMAND = f"`ncu {' '.join(f'--option-{n}' for n in range(30))}`"


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path_factory.mktemp("library")))
    yield
    patch.undo()


def document(*blocks):
    answer = Section(title="Answer", blocks=(Sentence(text="It is slow.", kind="lead"),))
    return Document(
        kind="diagnosis", title="t", sections=(answer, Section(title="Why", blocks=blocks))
    )


def table(*rows):
    columns = (TableColumn(name="Row"), TableColumn(name="Time", is_number=True))
    return DocumentTable(
        columns=columns, rows=tuple(tuple(Cell(text=t) for t in row) for row in rows)
    )


def bars(*lengths):
    parts, at = [], 0
    for number, length in enumerate(lengths):
        span = {"start": at, "end": at + length}
        parts.append(DocumentPart(name=str(number), **span, color="#D86B0D"))
        at += length
    return Figure(alt="", bars=(Bar(name="GPU 0", parts=tuple(parts)),))


def on_terminal(width, *arguments, **variables):
    """Return what a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", **variables}
    with subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, arguments)], stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the last process that could write has ended
                break
            output += part
    os.close(ours)
    assert process.returncode == 0
    return output.decode().replace("\r\n", "\n")


def words(text):
    return ESCAPE.sub("", text).translate(dict.fromkeys(map(ord, EIGHTHS))).split()


def test_a_pipe_gets_each_sentence_and_each_row_on_one_line():
    long = "word " * 300
    text = terminal_text(document(Sentence(text=long.strip()), table(("x " * 90, "1 ms"))))
    lines = text.splitlines()
    assert lines[:3] == ["It is slow.", "", "Why"]
    assert f"  {long.strip()}" in lines
    assert any(line.startswith("  x x") and line.endswith("1 ms") for line in lines)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [40, 80, 140])
def test_nothing_but_a_command_is_longer_than_the_screen(width):
    blocks = (
        Sentence(text="1. A rather long title of what costs time, with its numbers", kind="lead"),
        Sentence(text=f"Run it again {'and again ' * 30}"),
        bars(5, 1, 1e-9, 40, 1e-9),
        table(("a name of many words, longer than half of any screen " * 3, "12.3 ms")),
    )
    text = ESCAPE.sub("", terminal_text(document(*blocks), Screen(width=width, colors="truecolor")))
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [40, 80])
def test_a_command_can_be_copied_as_a_whole(width):
    blocks = (
        Sentence(text=f"Record it with {COMMAND}, then look again."),
        Sentence(text=COMMAND.strip("`"), kind="command"),
    )
    text = terminal_text(document(*blocks), Screen(width=width))
    assert text.count(COMMAND.strip("`")) == 2


def test_what_belongs_to_a_lead_stands_under_its_words():
    blocks = (Sentence(text="1. Waits", kind="lead"), Sentence(text="Try: less of them"))
    assert terminal_text(document(*blocks)).endswith("Why\n  1. Waits\n     Try: less of them\n")


def test_a_narrow_screen_wraps_words_before_numbers():
    rows = (("a kernel with a name of many words", "1.25 ms to 3.75 ms"),)
    lines = terminal_text(document(table(*rows)), Screen(width=40)).splitlines()
    assert any(line.endswith("1.25 ms to 3.75 ms") for line in lines)


@given(text=st.text(min_size=1, max_size=60))
def test_no_text_of_a_recording_commands_the_terminal(text):
    blocks = (Sentence(text=text), table((text, text)), bars(1))
    for screen in (Screen(), Screen(width=60, colors="truecolor")):
        shown = ESCAPE.sub("", terminal_text(document(*blocks), screen))
        assert all(c.isprintable() for c in shown.replace("\n", ""))


def test_a_row_of_the_ledger_has_a_bar_of_its_share():
    shares = (1.0, 0.5, 0.001)
    rows = tuple(
        (Cell(text=str(share), share=share, color="#D86B0D"), Cell(text="1 ms")) for share in shares
    )
    columns = (TableColumn(name="Row"), TableColumn(name="Time", is_number=True))
    ledger = document(DocumentTable(columns=columns, rows=rows))

    def bars_of(screen):
        lines = ESCAPE.sub("", terminal_text(ledger, screen)).splitlines()[-len(rows) :]
        return [line.partition(" ms")[2].strip() for line in lines]

    assert bars_of(Screen(width=80, colors="truecolor")) == [
        "█" * ROW_BAR,
        "█" * (ROW_BAR // 2),
        "▏",
    ]
    narrow, plain = Screen(width=30, colors="truecolor"), Screen(width=80)
    without_blocks = Screen(width=80, colors="truecolor", has_blocks=False)
    for screen in (narrow, plain, without_blocks, Screen()):
        assert bars_of(screen) == [""] * len(rows)


@pytest.mark.parametrize("screen", [Screen(), Screen(width=80), Screen(width=80, colors="256")])
def test_a_long_command_that_a_sentence_quotes_stands_on_a_line_of_its_own(screen):
    blocks = (
        Sentence(text=f"To look inside, run {COMMAND}. Then come back to `gemm`."),
        Sentence(text="Record with `nsys profile -t cuda`."),
    )
    lines = ESCAPE.sub("", terminal_text(document(*blocks), screen)).splitlines()[3:]
    assert [line.strip() for line in lines] == [
        "To look inside, run:",
        COMMAND.strip("`"),
        "Then come back to `gemm`.",
        "Record with `nsys profile -t cuda`.",
    ]


def test_a_terminal_has_colours_and_bars_and_a_pipe_has_neither():
    path = scenarios.sync()
    colored = on_terminal(80, "diagnose", path)
    assert "\x1b[38;2;216;107;13m" in colored  # of the row "sync"
    assert "█" in colored
    plain = on_terminal(80, "diagnose", path, NO_COLOR="1")
    assert "\x1b" not in plain
    assert "█" not in plain
    piped = subprocess.run(
        [sys.executable, "-m", "cli", "diagnose", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "\x1b" not in piped
    assert words(colored) == words(plain) == words(piped)


def test_a_stored_answer_loads_nothing_that_is_slow_to_import():
    path = scenarios.sync()
    code = (
        "import sys, cli.main; cli.main.main(['diagnose', sys.argv[1]]);"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'jinja2', 'plotly') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(path)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
