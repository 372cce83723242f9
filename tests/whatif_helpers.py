"""Programs that are recorded, replayed and predicted for, as the tests of what-if need them."""

from hypothesis import strategies as st

from analyzers.facts.facts import build_facts
from analyzers.facts.windows import choose_window
from analyzers.speedups import DASH
from analyzers.whatif.whatif import Prediction, explore
from analyzers.words import TIMES
from benchmarks.simulated.program import Copy, Kernel, Stream, Wait, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors import open_trace

US, MS = 1_000, 1_000_000
SEVEN, SIDE = Stream(7), Stream(13)

# What a thread of any program may do.
OPERATIONS = st.one_of(
    st.builds(
        Kernel,
        st.integers(2_000, 200_000),
        stream=st.sampled_from([SEVEN, SIDE]),
        call_ns=st.integers(2_000, 9_000),
    ),
    st.builds(Work, st.integers(500, 60_000), is_dispatch=st.just(True)),
    st.builds(Work, st.integers(200_000, 900_000)),
    st.builds(Wait, st.sampled_from(["cudaStreamSynchronize", "cudaDeviceSynchronize"])),
    st.builds(
        Copy,
        st.integers(100_000, 4_000_000),
        direction=st.sampled_from([1, 2]),
        pageable=st.booleans(),
        blocking=st.booleans(),
    ),
)


def facts_of(folder, program, tweaks=()):
    recorder = Recorder(devices=program.devices)
    execute(program, recorder=recorder)
    for tweak in tweaks:
        tweak(recorder)
    path = recorder.write(folder / f"{len(list(folder.iterdir()))}.sqlite")
    return build_facts(open_trace(path, folder / "cache"))


def whole(facts):
    return choose_window(facts, "all", ())


def explored(folder, program, speed_ups=()):
    facts = facts_of(folder, program)
    return explore(facts, whole(facts), speed_ups)


def about(known, change):
    return next(p for p in known.predictions if p.change == change)


def why_not(known, change):
    return next(w.reason for w in known.withheld if w.change == change)


def typeset(text):
    """Return what is easy to type as it is printed."""
    return text.replace("-", DASH).replace(" x", f" {TIMES}")


def some(low=1 / 2.3, high=1 / 1.9, change="sync"):
    return Prediction(
        change=change,
        cause="sync",
        title="removing the 100 waits",
        measured_ns=MS,
        low_ns=round(low * MS),
        high_ns=round(high * MS),
        assumptions=("Nothing needs them",),
        count=100,
    )
