"""Run a workload under a profiler, watch it, and open what it recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from analyzers.words import time_text
from captures import store
from captures.store import Capture, Run, RunState, State
from collectors.capture.tools import has_gpu
from collectors.errors import TraceError
from collectors.schema import DEVICE_TABLES
from library import cache
from views.parts import capture_live
from views.parts.capture_choices import (
    COMMANDS_VARIABLE,
    FIRST,
    NO_GPU,
    NO_TORCH,
    TELEMETRY,
    TOOL_WORDS,
    Pair,
    commands_allowed,
    has_torch,
    impossible,
    pairs,
    parsed,
)
from views.shared.access import EDITORS_ONLY, may_edit
from views.shared.markdown import Escaped, md_escape
from views.shared.session import draw_error, draw_prose
from views.shared.units import visible

CAPTURE = "capture"
POLL = "1s"
MAX_REPEAT, MAX_STEPS = 20, 100_000
SHOWN_EARLIER = 10
LOG_LINES, LOG_BYTES = 20, 8_192
SHOWN_TITLE, SHOWN_LINE = 60, 300
COMPARE = "compare.py"
WITHOUT_NUMBERS = "Nothing ran on a GPU, so Compare has no numbers to show."
WITH_OWN_STEPS = "Nothing ran on a GPU: Compare uses the steps that the programs timed themselves."
PAIR, COMMAND = "A workload pair", "A command"
STATE_WORDS = {
    State.RUNNING: "Running",
    State.DONE: "Done",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
    State.LOST: "Lost",
}
RUN_WORDS = {
    RunState.WAITING: "waiting",
    RunState.RUNNING: "running",
    RunState.DONE: "done",
    RunState.FAILED: "failed",
    RunState.SKIPPED: "skipped",
    RunState.CANCELLED: "cancelled",
}


def page() -> None:
    """Draw the page, to editors only: it shows what programs printed as they printed it."""
    st.header("Capture", anchor=False)
    if not may_edit():
        st.info(EDITORS_ONLY)
        return
    capture_id = st.query_params.get(CAPTURE, "")
    chosen = store.read(capture_id) if capture_id else None
    if capture_id and chosen is None:
        draw_error("This capture is not here; it was deleted, or it was made on another machine.")
    if chosen is not None:
        _draw_capture(chosen)
    captures = store.captures()
    running = [c for c in captures if not c.is_over]
    if running and (chosen is None or chosen.is_over):
        _draw_running(running[0])
    if not running:
        _draw_form(first=chosen is None)
    _draw_earlier([c for c in captures if chosen is None or c.id != chosen.id])


# --- a new one --------------------------------------------------------------------------------


def _draw_form(*, first: bool) -> None:
    """Ask what to capture; what is not possible here is said before anything starts."""
    if not first:
        st.subheader("Capture again", anchor=False)
    st.write(
        "Runs a deliberately slow program and its optimized twin under a profiler, then "
        "opens the recordings."
    )
    subject = PAIR
    if commands_allowed():
        subject = st.radio(
            "What to run",
            [PAIR, COMMAND],
            key="what",
            horizontal=True,
            label_visibility="collapsed",
        )
    pair = None if subject == COMMAND else _draw_pair_picker()
    command = _draw_command_field() if subject == COMMAND else ()
    if pair is None and subject == PAIR:
        return
    chosen = _draw_tool_picker(for_command=subject == COMMAND)
    left, right, _ = st.columns([1, 1, 3])
    repeat = left.number_input("Runs per program", 1, MAX_REPEAT, 1, key="repeat")
    steps = 0
    if subject == PAIR:
        steps = right.number_input(
            "Steps", 0, MAX_STEPS, 0, key="steps", help="0 uses the workload's own number of steps."
        )
    if not any(name != TELEMETRY for name in chosen):
        st.caption(
            "Without a profiler, only telemetry is recorded and there is nothing to compare."
        )
    ready = bool(chosen) and (subject == PAIR or bool(command))
    if st.button("Start", type="primary", key="start", disabled=not ready):
        _start(pair, command, chosen, int(repeat), int(steps))
    _draw_terminal_hint()


def _draw_pair_picker() -> Pair | None:
    """Let the reader choose a pair; None when none can run."""
    by_name = {pair.name: pair for pair in pairs()}
    if not has_torch():
        st.warning(md_escape(NO_TORCH))
        return None
    name = st.selectbox(
        "Pair",
        list(by_name),
        list(by_name).index(FIRST) if FIRST in by_name else 0,
        key="pair",
        format_func=lambda n: f"{n}: {by_name[n].title}" if n in by_name else n,
    )
    if name not in by_name:
        return None
    draw_prose(by_name[name].why)
    return by_name[name]


def _draw_command_field() -> tuple[str, ...]:
    text = st.text_input(
        "Command, runs as this server's user", key="command", placeholder="python train.py"
    )
    words = parsed(text)
    if text.strip() and not words:
        st.caption("The command has an unclosed quote.")
    return words


def _draw_tool_picker(*, for_command: bool) -> list[str]:
    """Let the reader choose what records, of what can be used here."""
    missing = impossible()
    usable = [name for name in TOOL_WORDS if name not in missing]
    profilers = [name for name in usable if name != TELEMETRY]
    default = [*profilers[:1], TELEMETRY]
    if for_command and "nsys" in usable:
        default = ["nsys", TELEMETRY]
    chosen = st.multiselect(
        "Record with",
        usable,
        default,
        key="tools",
        format_func=lambda name: TOOL_WORDS.get(name, name),
        help="Each profiler needs its own run of the program; telemetry is sampled during all of "
        "them.",
    )
    for line in missing.values():
        st.caption(md_escape(line))
    if not has_gpu():
        st.caption(md_escape(NO_GPU))
    return [str(name) for name in chosen]


def _draw_terminal_hint() -> None:
    """Say how to capture what this page does not start."""
    if not commands_allowed():
        st.caption(
            "This page runs only whyslow's own workloads; otherwise anyone who can reach it "
            "could run any command as the server's user. Start the server with "
            f"`{COMMANDS_VARIABLE}=1` to accept commands as well. In a terminal:"
        )
    else:
        st.caption(
            f"Commands are enabled on this server by `{COMMANDS_VARIABLE}=1`. In a terminal:"
        )
    st.code("whyslow capture --with nsys,telemetry -- python train.py", language=None)


def _start(
    pair: Pair | None, command: Sequence[str], chosen: Sequence[str], repeat: int, steps: int
) -> None:
    """Begin in a process of its own; the address names the capture from now on."""
    if not may_edit():
        draw_error(EDITORS_ONLY)
        return
    if any(not c.is_over for c in store.captures()):
        draw_error(
            "Another capture has started in the meantime; two at once would distort each "
            "other's timings."
        )
        return
    if command and not commands_allowed():
        draw_error(f"This server does not accept commands ({COMMANDS_VARIABLE}).")
        return
    options = ["--with", ",".join(chosen), "--repeat", str(repeat)]
    options += ["--steps", str(steps)] if steps else []
    arguments = [*options, pair.name] if pair is not None else [*options, "--", *command]
    try:
        capture_id = store.start(
            arguments,
            workload=pair.name if pair is not None else "",
            command=store.shown_command(command),
            tools=tuple(chosen),
            repeat=repeat,
        )
    except (TraceError, OSError) as error:
        draw_error(str(error))
        return
    st.query_params[CAPTURE] = capture_id
    st.rerun()


# --- one that runs, or is over ----------------------------------------------------------------


def _draw_capture(capture: Capture) -> None:
    with st.container(border=True, key="capture_shown"):
        if capture.is_over:
            _draw_result(capture)
        else:
            left, right = st.columns([7, 1], vertical_alignment="center")
            left.markdown(f"**{_title(capture)}**")
            pressed = right.button("Cancel", key="cancel")
            st.fragment(_draw_progress, run_every=POLL)(capture.id)
            if pressed and may_edit():
                store.cancel(capture.id)
                st.session_state["cancelling"] = capture.id
                st.rerun()


def _title(capture: Capture) -> Escaped:
    """Return what is captured, and with what, safe for Markdown."""
    used = ", ".join(TOOL_WORDS.get(tool, tool) for tool in capture.tools)
    return md_escape(f"{visible(capture.title, SHOWN_TITLE)} · {used}")


def _draw_progress(capture_id: str) -> None:
    """Show how far it is, and what the program uses meanwhile."""
    capture = store.read(capture_id)
    if capture is None or capture.is_over:
        st.rerun(scope="app")
    stage = "cancelling" if st.session_state.get("cancelling") == capture_id else capture.stage
    elapsed = time_text((time.time() - capture.started) * 1e9)
    words = f"{visible(stage, SHOWN_LINE)} · {elapsed} so far"
    st.progress(min(max(capture.progress, 0.0), 1.0), md_escape(words))
    sampled = [run.telemetry for run in capture.runs if run.telemetry]
    if sampled:
        capture_live.draw_telemetry(Path(sampled[-1]))
    elif TELEMETRY in capture.tools:
        st.caption("Telemetry starts with the first run.")


def _draw_result(capture: Capture) -> None:
    took = time_text((capture.ended - capture.started) * 1e9) if capture.ended else ""
    state = STATE_WORDS[capture.state]
    st.markdown(f"**{md_escape(state)}** · {_title(capture)}{md_escape(took and f' · {took}')}")
    if capture.state is State.CANCELLED:
        st.info("The capture was cancelled. Anything recorded by then is kept.")
    elif capture.error:
        draw_error(visible(capture.error, SHOWN_LINE))
    _draw_compare_link(capture)
    for number, run in enumerate(capture.runs):
        _draw_run(number, run)
    if capture.state in (State.FAILED, State.LOST):
        _draw_log(capture)


def _draw_compare_link(capture: Capture) -> None:
    """Lead to the comparison of both sides, once the page and both recordings are there."""
    if not Path(__file__).with_name(COMPARE).exists():
        return
    for tool in TOOL_WORDS:
        base, new = (
            [
                run.trace
                for run in capture.runs
                if (run.tool, run.role) == (tool, role) and run.trace
            ]
            for role in ("baseline", "optimized")
        )
        if base and new and tool != "ncu":
            address = {"base": ",".join(base), "new": ",".join(new)}
            label = f"Compare baseline and optimized ({md_escape(TOOL_WORDS[tool])})"
            st.page_link(COMPARE, label=label, query_params=address)
            if not any(_has_gpu_work(trace_id) for trace_id in (*base, *new)):
                timed = all(run.summary for run in capture.runs if run.trace in (*base, *new))
                st.caption(WITH_OWN_STEPS if timed else WITHOUT_NUMBERS)


def _has_gpu_work(trace_id: str) -> bool:
    try:
        trace = cache.get(trace_id)
    except (TraceError, OSError):
        return True  # whatever is wrong, the other page says it
    return any(trace.count(table) for table in DEVICE_TABLES)


def _draw_run(number: int, run: Run) -> None:
    box = st.container(key=f"listing run {number}")
    left, right = box.columns([7, 1], vertical_alignment="center", gap="small")
    tool = TOOL_WORDS.get(run.tool, run.tool)
    about = [RUN_WORDS[run.state], *([time_text(run.seconds * 1e9)] if run.seconds else [])]
    head = f"{visible(run.role, SHOWN_TITLE)} · {tool} · run {run.number}"
    lines = [line for line in (run.sentence, run.error or run.failure) if line]
    outcome = "".join(f"  \n{md_escape(visible(line, SHOWN_LINE))}" for line in lines)
    remarks = "".join(
        f"  \n:small[:gray[{md_escape(visible(note, SHOWN_LINE))}]]" for note in run.notes
    )
    left.markdown(
        f"{md_escape(head)} :small[:gray[{md_escape(', '.join(about))}]]{outcome}{remarks}"
    )
    if run.trace:
        with right:
            st.page_link("overview.py", label="Show", query_params={"trace": run.trace})


def _draw_log(capture: Capture) -> None:
    """Show the end of what the program and the profiler printed."""
    try:
        with (capture.folder / store.LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return
    if lines:
        with st.expander("Last output"):
            st.code("\n".join(visible(line, SHOWN_LINE) for line in lines[-LOG_LINES:]), None)


# --- the others -------------------------------------------------------------------------------


def _draw_running(capture: Capture) -> None:
    with st.container(border=True):
        st.markdown(
            f"A capture is running: {_title(capture)}. Two at once would distort each "
            "other's timings."
        )
        if st.button("Show its progress", key="watch"):
            st.query_params[CAPTURE] = capture.id
            st.rerun()


def _draw_earlier(captures: Sequence[Capture]) -> None:
    over = [capture for capture in captures if capture.is_over][:SHOWN_EARLIER]
    st.subheader("Earlier captures", anchor=False)
    if not over:
        st.caption(
            "None yet. Captures are kept in the data folder, also across restarts of the server."
        )
    for capture in over:
        box = st.container(key=f"listing {capture.id}")
        left, right = box.columns([7, 1], vertical_alignment="center", gap="small")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(capture.started))
        about = f"{STATE_WORDS[capture.state].lower()} · {when}"
        left.markdown(f"{_title(capture)}  \n:small[:gray[{md_escape(about)}]]")
        if right.button("Show", key=f"show {capture.id}"):
            st.query_params[CAPTURE] = capture.id
            st.rerun()


page()
