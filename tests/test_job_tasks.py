"""A job is a type: its order and its answer are the JSON of it, whatever a recording is called."""

import json
import typing

import msgspec
import pytest

from analyzers.facts.spans import Window
from jobs import tasks
from jobs.limits import Limits
from library.predictions import Question

WINDOW = Window(start_ns=5, end_ns=7, label='step "1"\n')
TASKS = [
    tasks.AnswerJob(path="/tmp/job \n.parquet"),
    tasks.OpenRecording(path="/tmp/caf\udce9 \n.sqlite", window="nvtx:\udcff", timeline=False),
    tasks.Analyse(trace_id="a-1", window="span:1-2", counters="b-2"),
    tasks.MakeTimeline(trace_id="a-1"),
    tasks.MeasureSide(trace_id="a-1", window="nvtx:step", device=3),
    tasks.MakeProgramTrees(trace_id="a-1", window="iteration:2", counters="b-2"),
    tasks.Predict(
        trace_id="a-1", question=Question(window=WINDOW, speed_ups=(("gemm", 2.0), ("ü", 1.5)))
    ),
]
KINDS = typing.get_args(tasks.AnyTask)


def test_every_kind_of_task_is_tried_here():
    assert {type(task) for task in TASKS} == set(KINDS)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: type(t).__name__)
def test_an_order_survives_its_way_to_the_child(task):
    order = tasks.JobOrder(task=task, limits=Limits(memory_gb=2.5))
    text = json.dumps(msgspec.to_builtins(order))
    assert msgspec.convert(json.loads(text), tasks.JobOrder) == order


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_task_is_frozen_and_every_field_has_a_type(kind):
    assert kind.__struct_config__.frozen
    fields = typing.get_type_hints(kind)
    assert not {typing.Any, dict, list} & set(fields.values())
    assert callable(kind.run)
    assert isinstance(kind.gives_memory_back, bool)


@pytest.mark.parametrize(
    "damage",
    [{"type": "Erase", "trace_id": "a"}, {"type": "Analyse"}, {"type": "Analyse", "trace_id": 5}],
    ids=["no such task", "a field is missing", "a field is of another type"],
)
def test_an_order_that_makes_no_sense_is_refused(damage):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"task": damage, "limits": {}}, tasks.JobOrder)
