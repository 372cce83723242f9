"""A column has one meaning: a key is the trace's own number of a thing, an index counts them."""

import ast
import dataclasses
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analyzers.analysis import investigate
from analyzers.compare.measure import measure
from analyzers.facts.facts import build_facts, restored_facts
from analyzers.facts.operators import on_thread
from analyzers.kernels.counted import counted_kernels
from analyzers.kernels.table import kernel_table
from analyzers.ledger.regions import region_matrix
from analyzers.whatif.whatif import explore
from collectors import open_trace
from exports.tables import export_parquet
from library import analyses
from tests import scenarios

ROOT = Path(__file__).parents[1]
ANALYZERS = ROOT / "analyzers"
ANALYZERS_PATH = f"{ANALYZERS}/"
TRACES = ROOT / "traces"
RECORDINGS = (
    *sorted((TRACES / "synthetic").glob("*.sqlite")),
    *sorted((TRACES / "synthetic").glob("*.ncu-rep")),
    TRACES / "cpu_training.sqlite",
    TRACES / "cpu_training.json.gz",
)
NOT_RECORDED = -1


class ReturnedTables:
    """Every table that a function of the analysis returns, also inside of what it returns."""

    def __init__(self):
        self.tables = {}

    def __enter__(self):
        threading.setprofile(self._keep)
        sys.setprofile(self._keep)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)
        threading.setprofile(None)

    def _keep(self, frame, event, value):
        path = frame.f_code.co_filename
        if event == "return" and path.startswith(ANALYZERS_PATH):
            for table in tables_in(value):
                place = f"{path[len(ANALYZERS_PATH) :]}:{frame.f_code.co_qualname}"
                self.tables[place, *table.columns] = table


def tables_in(value):
    """Return the tables that a value is, or is made of."""
    if isinstance(value, pd.DataFrame):
        return [value]
    if isinstance(value, tuple):
        return [table for part in value for table in tables_in(part)]
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    parts = [getattr(value, field.name, None) for field in fields]
    return [part for part in parts if isinstance(part, pd.DataFrame)]


def wrong_columns(table, facts):
    """Return the columns of ``table`` that are called otherwise than what they hold."""
    keys = {
        f"{name}_key": {NOT_RECORDED, *facts.trace.columns(table_of, [name])[name].tolist()}
        for name, table_of in (("process", "processes"), ("thread", "threads"))
    }
    sizes = {"process_index": len(facts.process_keys), "thread_index": len(facts.thread_keys)}
    wrong = [name for name in table.columns if name in ("process", "thread")]
    for name in (str(n) for n in table.columns if str(n).endswith(("_key", "_index"))):
        values = np.unique(table[name].to_numpy())
        if name in sizes:
            is_right = np.all((values >= NOT_RECORDED) & (values < sizes[name]))
        else:
            is_right = set(values.tolist()) <= keys[name]
        wrong += [] if is_right else [name]
    return wrong


def everything_about(trace):
    """Return what is derived from a recording, and the tables that were made on the way."""
    with ReturnedTables() as returned:
        analysis = investigate(trace)
        facts, ledger = analysis.facts, analysis.ledger
        kernel_table(facts)
        counted_kernels(ledger.inside)
        region_matrix(facts, ledger, analysis.report.iterations)
        explore(facts, ledger.window)
        if not facts.counters_only:
            measure(facts)
        tables = {
            "devices": facts.devices,
            "launches": facts.launches,
            "api": facts.api,
            "ranges": facts.ranges,
            "overheads": facts.overheads,
            "profiled": facts.counters.profiled,
            "segments": ledger.segments,
        }
        for thread_index in range(len(facts.thread_keys)):
            on_thread(facts, thread_index)
    return analysis, returned.tables | tables


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.name)
def test_a_key_is_never_taken_for_an_index(path, tmp_path):
    analysis, tables = everything_about(open_trace(path, tmp_path))
    wrong = {place: w for place, t in tables.items() if (w := wrong_columns(t, analysis.facts))}
    assert wrong == {}


def test_keys_and_indices_are_told_apart_where_there_are_several_of_each(tmp_path):
    trace = open_trace(scenarios.two_processes_with_equal_ids(), tmp_path)
    analysis, tables = everything_about(trace)
    facts = analysis.facts
    assert {place: w for place, t in tables.items() if (w := wrong_columns(t, facts))} == {}
    assert set(facts.launches["process_index"]) == set(facts.api["thread_index"]) == {0, 1}
    processes = facts.process_keys[facts.launches["process_index"]]
    assert processes.tolist() == kernels_by_begin(trace)["process"].tolist()
    threads = facts.thread_keys[facts.thread_index]
    assert threads.tolist() == calls_by_begin(trace)["thread"].tolist()
    assert sorted(facts.devices["process_key"]) == sorted(set(processes.tolist()))
    stored = analyses.save(analysis, trace, "")
    assert stored.narrow_launches()["process_key"].tolist() == processes.tolist()
    assert stored.launches()["thread_key"].tolist() == threads.tolist()
    assert restored_facts(trace, stored.narrow_launches()).launches.equals(facts.launches)


def kernels_by_begin(trace):
    return trace.frame("kernels").sort_values("start_ns", kind="stable")


def calls_by_begin(trace):
    return trace.frame("api_calls").sort_values("start_ns", kind="stable")


def test_exported_launches_keep_the_names_that_their_readers_know(tmp_path):
    trace = open_trace(RECORDINGS[0], tmp_path)
    stored = analyses.save(investigate(trace), trace, "")
    export_parquet(trace, stored, tmp_path / "tables")
    launches = pq.read_table(tmp_path / "tables" / "launches.parquet")
    assert launches["process"].to_pylist() == stored.launches()["process_key"].tolist()
    assert launches["thread"].to_pylist() == stored.launches()["thread_key"].tolist()
    assert not [name for name in launches.column_names if name.endswith(("_key", "_index"))]


def test_only_one_file_of_the_analysis_knows_what_the_trace_calls_its_keys():
    spoken = {
        path.relative_to(ROOT).as_posix()
        for path in ANALYZERS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in ("process", "thread")
    }
    assert spoken == {"analyzers/facts/trace_table.py"}


@pytest.mark.parametrize(
    "columns",
    [
        {"thread": [0]},
        {"process": [0]},
        {"thread_index": [2]},
        {"process_index": [-2]},
        {"thread_key": [1]},
        {"process_key": [0, 1]},
    ],
)
def test_a_wrong_column_is_seen(columns, tmp_path):
    facts = build_facts(open_trace(scenarios.two_processes_with_equal_ids(), tmp_path))
    assert wrong_columns(pd.DataFrame(columns), facts) == list(columns)
