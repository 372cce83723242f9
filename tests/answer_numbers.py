"""Every number of answers about programs whose trouble is known, as lines of text.

``tests/answers/`` holds them as they were read and found right; a test compares all of them.
Words may change: of a sentence only its numbers are kept. When a change to the code moves a number,
``python -m tests.answer_numbers`` writes the files anew, and the difference is to be read line by
line as a reader of the answer would: each line that changed is a number that somebody is told.
"""

import re
import tempfile
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
from benchmarks.simulated.simulator import execute
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from tests import counter_scenarios, scenarios
from tests.counter_answers import SCENARIOS as COUNTED
from tests.test_rules import SCENARIOS

ANSWERS = Path(__file__).with_name("answers")
NUMBER = re.compile(r"(?<![\w.#])\d[\d,]*(?:\.\d+)?")
LONGEST_WORD = 40
# What depends on the machine, says the same twice, or is no answer.
LEFT_OUT = {
    *("source", "sha256", "counts", "skipped", "failed", "schema", "does_not_apply_when", "how"),
    *("iterations_note", "command", "trace_id", "advice", "assumptions", "base_place", "new_place"),
}
SEEDS = {"nsys": 1, "torch": 2, "whatif": 3}
PREDICTED = (
    *("launch_small_kernels", "sync_every_kernel", "bandwidth_pageable", "host_input"),
    *("communication_exposed", "memory_in_the_loop", "dependency_between_gpus", "healthy_graphs"),
    *("healthy_two_streams", "sync_polling", "mixed_phases", "confounder_whole_graphs"),
    *("healthy_overlapped_copies", "tangled_steps", "confounder_equal_ids", "bandwidth_pinned"),
)
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


def _report(path):
    report = investigate(_trace(path)).report.to_dict()
    report["iterations"] = report["iterations"][:2]
    return report


def _of_scenario(module, name):
    return _report(getattr(module, name)())


def _recorded(family, seed):
    path = Path(_folder().name) / f"{family}_{seed}.sqlite"
    return accuracy.record_case(accuracy.make_case(family, seed), seed).write(path)


def _of_program(family):
    return _report(_recorded(family, SEEDS["nsys"]))


def _of_torch_program(family):
    path = Path(_folder().name) / f"{family}.pt.trace.json"
    case = accuracy.make_case(family, SEEDS["torch"])
    recorder = TorchRecorder(case.program.devices)
    execute(case.program, recorder=recorder)
    return _report(recorder.write(path))


def _predicted(family):
    """Return what is predicted for a program, and for its kernels with an "e" being faster."""
    facts = build_facts(_trace(_recorded(family, SEEDS["whatif"])))
    return explore(facts, choose_window(facts, "", ()), (("e", 3.0),)).to_dict()


def _side(number, count, change=None):
    rng = np.random.default_rng(number)
    folder = Path(_folder().name) / f"compared_{number}"
    (folder / "traces").mkdir(parents=True, exist_ok=True)
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


PARTS = {
    "scenarios": {
        name: partial(_of_scenario, module, name)
        for module, names in ((scenarios, SCENARIOS), (counter_scenarios, COUNTED))
        for name in names
    },
    "programs": {f.__name__: partial(_of_program, f.__name__) for f in FAMILIES},
    "torch_programs": {name: partial(_of_torch_program, name) for name in TORCH},
    "predictions": {name: partial(_predicted, name) for name in PREDICTED},
    "comparisons": {
        "itself": partial(_compared, None),
        **{change.name: partial(_compared, change) for change in CHANGES},
        "three runs each": _three_runs_each,
        "two GPUs": _two_gpus,
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
