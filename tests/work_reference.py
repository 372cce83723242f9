"""Published figures of operators' work, and the same from a recording of ours."""

import ast
import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analyzers.facts.facts import COMMUNICATION, COPY, KERNEL, MEMSET, build_facts
from analyzers.work.element_types import NO_TYPE
from analyzers.work.inputs import read_inputs
from analyzers.work.models.registry import model_of
from collectors.schema import OperatorKind
from tests.real_traces import opened

REAL = Path(__file__).parents[2] / "shared" / "real"
NAMES = ("input_dims", "input_types", "input_strides", "concrete_inputs")
PUBLISHED = REAL / "expected" / "perf_model"
MIB = 1 << 20
KINDS = tuple((KERNEL, COMMUNICATION, COPY, MEMSET)[:count] for count in (2, 3, 4))


@dataclass
class Row:
    """One operator with its inputs; the numbers of published ones and of ours are alike."""

    flop: float = float("nan")
    moved: float = float("nan")
    calls: int = 0
    us: tuple = (0.0,)  # one published, or ours with and without copies and memsets


def published_rows(path):
    """Return published figures by operator, shapes, types, strides and values."""
    rows = defaultdict(Row)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            row = rows[(line["op"], *(_key(ast.literal_eval(line[n])) for n in NAMES))]
            row.flop = float(line["gflop_each"]) * 1e9
            row.moved = float(line["moved_mib_each"] or "nan") * MIB
            row.calls += int(line["count"])
            row.us = (row.us[0] + float(line["kernel_us_sum"]),)
    return dict(rows)


def _key(inputs):
    """Return inputs as text; those without any number that was passed are all alike."""
    return json.dumps(inputs) if any(part != "" for part in inputs) else ""


def work_of(key):
    """Return operations and bytes of an operator with inputs, by our models."""
    work = model_of(key[0])(read_inputs(*([text] for text in key[1:]), np.array([NO_TYPE])))
    return float(work.flop[0]), float(work.bytes[0])


def our_rows(path):
    """Return the operators of a recording that have a work model, by their inputs.

    Times are those of kernels, of kernels and copies, of these and memsets: a published one may be
    any of the three.
    """
    facts = build_facts(opened(path))
    table = facts.trace.frame("operators")
    table = table[(table["kind"] == OperatorKind.FRAMEWORK).to_numpy()].reset_index(drop=True)
    names = ("name_id", "shapes_id", "types_id", "strides_id", "values_id")
    texts = [facts.trace.names(table[name].to_numpy()) for name in names]
    inside = [_ns_inside(facts, table, kinds) / 1000 for kinds in KINDS]
    rows = defaultdict(Row)
    for place, (operator, *inputs) in enumerate(zip(*texts, strict=True)):
        if model_of(operator) is not None and inputs[0]:
            row = rows[(operator, *(_key(json.loads(t)) if t else "" for t in inputs))]
            row.calls += 1
            row.us = tuple(
                before + more[place] for before, more in zip((row.us * 3)[:3], inside, strict=True)
            )
    return dict(rows)


def _ns_inside(facts, table, kinds):
    """Return the time of what was launched inside each operator."""
    is_kind = np.isin(facts.launches["kind"], kinds)
    rows = np.flatnonzero(is_kind & (facts.launches["api_row"] >= 0))
    thread = facts.thread_keys[facts.thread_index[rows]]
    called, ns = facts.api_start_ns[rows], facts.duration_ns[rows]
    inside = np.zeros(len(table), np.int64)
    for key in np.unique(thread):
        of_thread = np.flatnonzero(thread == key)
        of_thread = of_thread[np.argsort(called[of_thread], kind="stable")]
        sums = np.append(0, np.cumsum(ns[of_thread]))
        places = np.flatnonzero(table["thread"] == key)
        first, last = (
            np.searchsorted(called[of_thread], table[column].to_numpy()[places])
            for column in ("start_ns", "end_ns")
        )
        inside[places] = sums[last] - sums[first]
    return inside
