"""Every number of answers about programs whose trouble is known, as lines of text.

``tests/answers/`` holds them as they were read and found right; a test compares all of them.
Words may change: of a sentence only its numbers are kept. When a change to the code moves a number,
``python -m tests.answer_numbers`` writes the files anew, and the difference is to be read line by
line as a reader of the answer would: each line that changed is a number that somebody is told.
"""

import re
import tempfile
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np

from analyzers.analysis import investigate
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.facts.facts import build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif.whatif import explore
from benchmarks import accuracy
from benchmarks.compare import CHANGES, recorded
from benchmarks.simulated.groups import FAMILIES
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from collectors.schema import TABLES
from tests import counter_scenarios, scenarios
from tests.answer_programs import EDGES, PAIRS, PROGRAMS, late_shift, pair
from tests.counter_answers import SCENARIOS as COUNTED
from tests.test_rules import SCENARIOS
from tests.traces_in_memory import make_trace
from traces.nsys_layout import GENERATIONS
from traces.nsys_writer import Recording

ANSWERS = Path(__file__).with_name("answers")
NUMBER = re.compile(r"(?<![\w.#])\d[\d,]*(?:\.\d+)?")
LONGEST_WORD = 40
# What depends on the machine, says the same twice, or is no answer.
LEFT_OUT = {
    *("source", "sha256", "counts", "skipped", "failed", "schema", "does_not_apply_when", "how"),
    *("iterations_note", "command", "trace_id", "base_place", "new_place"),
}
SEEDS = {"nsys": 1, "torch": 2, "whatif": 3}
PREDICTED = (
    *("launch_small_kernels", "sync_every_kernel", "bandwidth_pageable", "host_input"),
    *("communication_exposed", "memory_in_the_loop", "dependency_between_gpus", "healthy_graphs"),
    *("healthy_two_streams", "sync_polling", "mixed_phases", "confounder_whole_graphs"),
    *("healthy_overlapped_copies", "tangled_steps", "confounder_equal_ids", "bandwidth_pinned"),
)
READ = (
    *("bandwidth", "host", "memory", "dram", "managed_memory", "cuda_graph_nodes"),
    *("cuda_graph_whole", "two_processes_with_equal_ids", "no_gpu_work", "dependency"),
)
COUNTS_READ = ("idle_lanes", "uncoalesced", "tail")
TORCH = ("launch_small_kernels", "sync_read_back", "communication_exposed", "host_input")


def tokens(value, name=""):
    """Yield the numbers and short words in an answer, each with the field that it is in."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from tokens(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tokens(inner, name)
    elif isinstance(value, str):
        short = len(value) <= LONGEST_WORD and " " not in value
        text = value if short else " ".join(NUMBER.findall(value))
        yield from [f"{name}={text}"] if text else []
    elif isinstance(value, bool) or value is None:
        yield from [f"{name}={value}"] if value else []
    elif isinstance(value, float):
        yield f"{name}={value:.6g}"
    elif value != -1:
        yield f"{name}={value}"


def lines(answer):
    """Return an answer as lines: one for each thing that a list in it holds."""
    result = []
    for key, value in answer.items():
        if key in LEFT_OUT:
            continue
        parts = value if isinstance(value, list | tuple) else [value]
        texts = (" ".join(tokens(part)) or "" for part in parts)
        result += [f"{key}: {text}" for text in texts if text]
    return result


@cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="whyslow-answers-")


def _trace(path):
    return open_trace(path, Path(_folder().name) / "cache")


def _trimmed(report):
    answer = report.to_dict()
    answer["iterations"] = answer["iterations"][:2]
    return answer


def _report(path):
    return _trimmed(investigate(_trace(path)).report)


def _of_scenario(module, name):
    return _report(getattr(module, name)())


def _recorded(family, seed):
    path = Path(_folder().name) / f"{family}_{seed}.sqlite"
    return accuracy.record_case(accuracy.make_case(family, seed), seed).write(path)


def _of_program(family):
    return _report(_recorded(family, SEEDS["nsys"]))


def _torch_recording(family):
    path = Path(_folder().name) / f"{family}.pt.trace.json"
    case = accuracy.make_case(family, SEEDS["torch"])
    recorder = TorchRecorder(case.program.devices)
    execute(case.program, recorder=recorder)
    return recorder.write(path)


def _of_torch_program(family):
    return _report(_torch_recording(family))


def _small_program(title):
    path = Path(_folder().name) / f"{title}.sqlite"
    program = PROGRAMS[title]()
    recorder = Recorder(devices=program.devices)
    execute(program, recorder=recorder)
    return recorder.write(path)


def _predicted(path):
    """Return what is predicted for a program, and for its kernels with an "e" being faster."""
    facts = build_facts(_trace(path))
    return explore(facts, choose_window(facts, "", ()), (("e", 3.0),)).to_dict()


def _side(number, count, change=None):
    rng = np.random.default_rng(number)
    folder = Path(tempfile.mkdtemp(dir=_folder().name))  # names in it count what was recorded
    (folder / "traces").mkdir()
    return recorded(folder, np.exp(0.05 * rng.standard_normal(count)), change)


def _compared(change):
    return compare([_side(1, 24)], [_side(2, 20, change)]).to_dict()


def _three_runs_each():
    new = [_side(number, 12, CHANGES[0]) for number in (3, 4, 5)]
    return compare([_side(number, 12) for number in (6, 7, 8)], new).to_dict()


def _two_gpus():
    """Return what is said of two recordings with two GPUs, of which the second is busier."""
    sides = [
        measure(build_facts(_trace(_recorded("dependency_between_gpus", seed)))) for seed in (4, 5)
    ]
    return compare(sides[:1], sides[1:]).to_dict()


def _pair(title):
    base, new = pair(title)
    return compare([base], [new]).to_dict()


def _shifted():
    base, new = late_shift()
    return compare([base], [new]).to_dict()


def _of_edges(title):
    trace = make_trace(Path(_folder().name) / title.replace(" ", "_"), **EDGES[title]())
    return _trimmed(investigate(trace).report)


def _tables(path):
    """Return how many rows each table of a recording has, and the sum of each of its columns."""
    trace = _trace(path)
    tables = []
    for table in sorted(TABLES):
        if trace.count(table):
            frame = trace.frame(table)
            whole = frame.select_dtypes(["number", "bool"])
            sums = {
                c: int(v.sum()) if v.dtype.kind in "biu" else float(v.sum())
                for c, v in whole.items()
            }
            tables.append({"table": table, "rows": len(frame), **sums})
    return {"tables": tables, "notes": [asdict(note) for note in trace.notes]}


def _everything_recorded():
    """Return a recording that has every kind of row that Nsight Systems writes, on two threads."""
    recording = Recording(program="python")
    for thread in (77, 78):
        recording.thread(recording.pid, thread, f"worker {thread}")
    recording.diagnostic("lost 3 events", 5, severity=3)
    for n in range(9):
        start = 1_000_000 * n
        recording.nvtx(f"step {n}", start, start + 900_000)
        recording.nvtx("mark", start + 5, None)
        recording.os_call("poll", start + 500_000, start + 800_000)
        recording.overhead("Buffer flush", start + 810_000, start + 820_000)
        recording.api("cudaLaunchKernel", start + 10, start + 20 + n, correlationId=n)
        recording.kernel("work(int)", start + 100, start + 400_000 + n, correlationId=n)
    return recording.write(Path(_folder().name) / "everything.sqlite")


PARTS = {
    "tables": {
        "everything": lambda: _tables(_everything_recorded()),
        **{
            f"nsys {generation}": lambda g=generation: _tables(scenarios.scenario("sync", 2, g))
            for generation in GENERATIONS
        },
        **{name: lambda n=name: _tables(getattr(scenarios, n)()) for name in READ},
        **{name: lambda n=name: _tables(getattr(counter_scenarios, n)()) for name in COUNTS_READ},
        **{f"torch {name}": lambda n=name: _tables(_torch_recording(n)) for name in TORCH},
    },
    "scenarios": {
        name: partial(_of_scenario, module, name)
        for module, names in ((scenarios, SCENARIOS), (counter_scenarios, COUNTED))
        for name in names
    },
    "programs": {f.__name__: partial(_of_program, f.__name__) for f in FAMILIES},
    "torch_programs": {name: partial(_of_torch_program, name) for name in TORCH},
    "small_programs": {t: lambda t=t: _report(_small_program(t)) for t in PROGRAMS},
    "edges": {title: partial(_of_edges, title) for title in EDGES},
    "predictions": {
        **{f: lambda f=f: _predicted(_recorded(f, SEEDS["whatif"])) for f in PREDICTED},
        **{t: lambda t=t: _predicted(_small_program(t)) for t in PROGRAMS},
    },
    "comparisons": {
        "itself": partial(_compared, None),
        **{change.name: partial(_compared, change) for change in CHANGES},
        "three runs each": _three_runs_each,
        "two GPUs": _two_gpus,
        **{title: partial(_pair, title) for title in PAIRS},
        "a late shift and a warm-up": _shifted,
    },
}


def stored(part):
    """Return the lines of each answer that were found right, by its title."""
    answers = {}
    for line in (ANSWERS / f"{part}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            answers[line[3:]] = []
        else:
            answers[list(answers)[-1]].append(line)
    return answers


def write_all():
    """Write every file anew."""
    ANSWERS.mkdir(exist_ok=True)
    for part, answers in PARTS.items():
        texts = ["\n".join([f"== {title}", *lines(of())]) for title, of in answers.items()]
        (ANSWERS / f"{part}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all()
