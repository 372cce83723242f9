"""Recordings that are being opened, known by id so that a reload finds them again."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from collectors import input_file
from collectors.errors import RefusedError
from jobs.api import begin_opening
from jobs.job import Job
from jobs.tasks import Analysed
from views.shared.access import EDITORS_ONLY, Role, may_edit, role
from views.shared.markdown import md_escape
from views.shared.places import openable
from views.shared.session import draw_error

KEPT_JOBS = 64
POLL = "0.4s"  # often enough to feel alive, seldom enough to cost nothing
JOB = "job"


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[str, Job[Analysed]]:
    return {}


def begin(path: Path) -> None:
    """Start to open ``path``; the address names the job from now on.

    Raises:
        RefusedError: There is no such file, or the reader may not open it.
        TraceError: The data folder cannot be written, or a limit is no number.
    """
    job = begin_opening(checked_path(path))
    jobs = _jobs()
    while len(jobs) >= KEPT_JOBS:
        jobs.pop(next(iter(jobs)))
    jobs[job.id] = job
    st.query_params[JOB] = job.id


def checked_path(path: Path) -> Path:
    """Return ``path`` as it may be opened by whoever reads this page.

    Raises:
        RefusedError: There is no such file, or the reader may not open it.
    """
    if not may_edit():
        raise RefusedError(f"{input_file.shown_name(path)}: {EDITORS_ONLY}")
    return openable(path, anywhere=role() is Role.OWNER)


def forget() -> None:
    """Let the answer of a job that has ended make room for a newer one."""
    job = _jobs().get(st.query_params.get(JOB, ""))
    if job is not None and job.progress().done:
        del st.query_params[JOB]


def draw_job() -> None:
    """Show the job that the address names, until it is done; then show its recording."""
    job = _jobs().get(st.query_params.get(JOB, ""))
    if job is None:
        return
    progress = job.progress()
    if progress.trace_id:
        st.switch_page("overview.py", query_params={"trace": progress.trace_id})
    if progress.done:
        draw_error(progress.error)
        if st.button("Dismiss", key="job_dismiss"):
            del st.query_params[JOB]
            st.rerun()
        return
    with st.container(border=True):
        st.fragment(_draw_progress, run_every=POLL)(job)
        if st.button("Stop", key="job_stop"):
            job.cancel()
            st.rerun()


def _draw_progress(job: Job[Analysed]) -> None:
    progress = job.progress()
    if progress.done:
        st.rerun(scope="app")
    words = f"{job.name}: {progress.stage}, {progress.fraction:.0%}"
    st.progress(min(max(progress.fraction, 0.0), 1.0), md_escape(words))
