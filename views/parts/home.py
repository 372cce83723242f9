"""Parts of the page that opens recordings: samples by problem, and what was open before."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from analyzers.verdict_words import without_command, without_preamble
from analyzers.words import size_text, split_sentence
from collectors.trace import Trace
from library import analyses, cache
from library.analyses import StoredAnalysis
from views.shared.markdown import md_escape, md_prose
from views.shared.places import SAMPLES
from views.shared.units import visible

SHOWN_RECENT = 8
SHOWN_NAME = 64
SHOWN_VERDICT = 150  # characters; a sentence is cut after a whole word
NSYS = "nsys profile -t cuda,nvtx,osrt -o report python train.py"
CAPTURE = "whyslow capture --with all -- python train.py"


class SampleCard(NamedTuple):
    """One sample as it is offered to somebody new.

    Attributes:
        title: The problem, in the words of who has it.
        verdict: What whyslow answers, a part of its sentence.
        file: Below the folder of samples; empty for the pair that is compared.
    """

    title: str
    verdict: str
    file: str


CARDS = (
    SampleCard(
        "GPU waits for the host",
        "Launch-bound: for 88 % of the window, the GPU is idle while work is being launched.",
        "synthetic/synthetic_launch.sqlite",
    ),
    SampleCard(
        "Copies not overlapped",
        "Transfer-bound (host to device, 6.01 GB/s): for 77 % of the window, only copies and "
        "memsets run.",
        "synthetic/synthetic_bandwidth.sqlite",
    ),
    SampleCard(
        "Faster or not?",
        "Improved, measured in one run each: an iteration took 6.04 ms and now takes 3.04 ms",
        "",
    ),
)


def draw_cards(begin: Callable[[Path], None]) -> None:
    """Offer three samples, each with the problem that it shows and what whyslow answers."""
    for place, card in zip(st.columns(len(CARDS), gap="small"), CARDS, strict=True):
        with place.container(border=True, key=f"card_{CARDS.index(card)}", gap="xsmall"):
            st.markdown(f"**{md_escape(card.title)}**")
            st.caption(md_escape(card.verdict))
            if not card.file:
                st.page_link("compare.py", label="Compare a pair of samples")
            else:
                st.button(
                    "Open this sample",
                    key=f"card {card.file}",
                    on_click=begin,
                    args=(SAMPLES / card.file,),
                )


def draw_opened_before(recordings: list[Trace]) -> None:
    """List what was opened, the newest first: its verdict, GPU, size, and when it was opened."""
    st.markdown("**Opened before**")
    for trace in recordings[:SHOWN_RECENT]:
        with st.container(key=f"listing recent {trace.id}"):
            left, right = st.columns([7, 1], vertical_alignment="center", gap="small")
            name = md_escape(visible(trace.source.name, SHOWN_NAME))
            stored = analyses.load(trace)
            verdict, gpus = ("", "") if stored is None else _verdict_and_gpus(stored)
            about = md_escape(_about(trace, gpus))
            left.markdown(f"**{name}** {md_prose(verdict)}  \n:small[:gray[{about}]]")
            right.page_link("overview.py", label="Show", query_params={"trace": trace.id})


def _about(trace: Trace, gpus: str) -> str:
    facts = [gpus, size_text(max(trace.source.size_bytes, 0))]
    with contextlib.suppress(OSError):  # stored by an older version
        facts.append(f"opened {ago((trace.folder / cache.LATEST).stat().st_mtime)}")
    return " · ".join(fact for fact in facts if fact)


@functools.lru_cache(maxsize=256)
def _verdict_and_gpus(stored: StoredAnalysis) -> tuple[str, str]:
    """Return the begin of a verdict, and the GPUs; read once for each analysis."""
    report = stored.report
    sentence, _ = split_sentence(report.verdict.sentence)
    sentence = without_command(without_preamble(sentence))
    if len(sentence) > SHOWN_VERDICT:
        sentence = f"{sentence[:SHOWN_VERDICT].rsplit(' ', 1)[0]} …"
    return sentence, ", ".join(visible(str(gpu), 40) for gpu in report.source["gpus"][:3])


def ago(moment_s: float) -> str:
    """Say how long ago a moment was, given in seconds since 1970."""
    age_s = time.time() - moment_s
    for length_s, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if age_s >= length_s:
            count = int(age_s // length_s)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def draw_record_commands() -> None:
    """Show how to record a program of one's own, ready to be copied."""
    st.markdown("**Record your own program**")
    st.code(NSYS, language=None, wrap_lines=True)
    st.code(CAPTURE, language=None, wrap_lines=True)
    st.caption(
        "The second line runs every profiler that the machine has and opens what they say. Mark "
        "the steps of your loop with NVTX ranges, and whyslow compares its iterations."
    )
