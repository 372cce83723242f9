"""Families of programs that fool others, and recordings that cannot tell."""

from __future__ import annotations

from pathlib import Path

from benchmarks.simulated.cases import (
    HEALTHY,
    MB,
    PAGEABLE_COPIES,
    SIDE,
    UNKNOWN,
    Case,
    Maker,
    loop,
    one_thread,
)
from benchmarks.simulated.families import (
    healthy_deep_queue,
    host_input,
    launch_small_kernels,
    sync_every_kernel,
)
from benchmarks.simulated.program import (
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Memset,
    Operation,
    Poll,
    Program,
    Record,
    Stream,
    StreamWait,
    Thread,
    Wait,
    Work,
)
from benchmarks.simulated.recorder import PREFIX, Recorder
from benchmarks.simulated.simulator import execute, true_losses

WEAK_BELOW = 0.05  # of the time: a GPU that idles for less is busy, whatever the reason
UNIFIED_TO_DEVICE, UNIFIED_TO_HOST, MANAGED = 11, 12, 3  # as CUPTI numbers unified memory


# --- what fools others ----------------------------------------------------------------------


def confounder_idle_waiter(make: Maker) -> Case:
    """A second thread that launches nothing waits all the time."""
    ns = make.between(80_000, 300_000)
    main = Thread(loop([make.launches(10, ns) for _ in range(50)]))
    waiter = Thread([Wait("cudaDeviceSynchronize") for _ in range(200)], number=2)
    return Case(Program([main, waiter]), HEALTHY)


def confounder_single_queries(make: Maker) -> Case:
    """Events are queried once in a while, as caching allocators do; the host is late."""
    ns, wait = make.between(50_000, 150_000), make.between(900_000, 3_000_000)
    ask = Poll(until_done=False)
    steps = [[ask, Work(make.about(wait)), ask, *make.launches(4, ns)] for _ in range(60)]
    return Case(one_thread(loop(steps)), "host")


def confounder_harmless_stream_wait(make: Maker) -> Case:
    """Streams wait for events that are long past."""
    ns = make.between(80_000, 300_000)
    steps = [[Record(n, SIDE), *make.launches(6, ns), StreamWait(n)] for n in range(50)]
    return Case(one_thread(loop(steps)), HEALTHY)


def confounder_equal_ids(make: Maker) -> Case:
    """Two processes on a GPU each, whose correlation ids are the same; one waits all the time."""
    ns = make.between(15_000, 30_000)
    busy = loop([make.launches(10, 8 * ns, stream=Stream(7, 1)) for _ in range(40)])
    slow = loop(
        [
            [o for _ in range(20) for o in (make.dispatch(), make.kernel(ns), Wait())]
            for _ in range(60)
        ]
    )
    threads = [Thread(slow), Thread(busy, process=2)]
    return Case(Program(threads, devices=2), "sync")


def confounder_orphans(make: Maker) -> Case:
    """The first kernels were launched before the recording began."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_forget_first_calls,))


def confounder_open_range(make: Maker) -> Case:
    """A range that never ends."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_open_last_range,))


def confounder_call_stacks(make: Maker) -> Case:
    """Every API call is recorded twice."""
    case = sync_every_kernel(make)
    return Case(case.program, "sync", tweaks=(Recorder.repeat_calls,))


def confounder_copy_waits_for_kernel(make: Maker) -> Case:
    """``cudaMemcpy`` of a few bytes only waits for a kernel, while others keep the GPU busy."""
    ns = make.between(200_000, 500_000)
    copy = Copy(64, TO_HOST, blocking=True)
    steps = [[*make.launches(4, ns, stream=SIDE), make.kernel(ns), copy] for _ in range(60)]
    ahead = make.launches(6, ns, stream=SIDE)
    return Case(one_thread([*ahead, *loop(steps)]), HEALTHY)


def confounder_pinned_memcpy(make: Maker) -> Case:
    """``cudaMemcpy``, but of pinned memory: synchronous, and not pageable."""
    size, ns = round(make.between(10, 100) * MB), make.between(100_000, 400_000)
    steps = [[Copy(size, blocking=True), *make.launches(4, ns)] for _ in range(60)]
    return Case(one_thread(loop(steps)), "bandwidth", never=(PAGEABLE_COPIES,))


def confounder_migrations(make: Maker) -> Case:
    """Pages of unified memory that move while a kernel runs: rows of copies without a call."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_migrate_inside_kernels,))


def confounder_late_first_operation(make: Maker) -> Case:
    """A single step of the profiler's that prepares its input before it uses the GPU."""
    kernels = make.launches(60, make.between(50_000, 200_000))
    busy = sum(o.ns for o in kernels if isinstance(o, Kernel))
    prepared = Work(make.about(busy * make.between(0.5, 2)), "read")
    steps = [[prepared, *kernels, Wait()]]
    return Case(one_thread(loop(steps, "ProfilerStep#6")), "host")


def confounder_start_up(make: Maker) -> Case:
    """A program that starts for long, uses the GPU a little, and then goes through full steps."""
    ns = make.between(100_000, 300_000)
    steps = [make.launches(30, ns) for _ in range(20)]
    start: list[Operation] = [make.kernel(20_000), Work(make.about(make.between(1e9, 4e9)), "read")]
    return Case(one_thread([*start, *loop([*steps[:-1], [*steps[-1], Wait()]])]), HEALTHY)


def confounder_page_out(make: Maker) -> Case:
    """The host touches results in unified memory for long after the last kernel."""
    return Case(healthy_deep_queue(make).program, HEALTHY, tweaks=(_page_out_at_the_end,))


def confounder_capture_phase(make: Maker) -> Case:
    """Launches that are captured into a graph before the run have no kernels, and lack none."""
    return Case(healthy_deep_queue(make).program, HEALTHY, tweaks=(_capture_at_the_begin,))


def confounder_one_iteration(make: Maker) -> Case:
    """A single pass through the loop."""
    return Case(one_thread(loop([make.launches(200, make.between(60_000, 200_000))])), HEALTHY)


def confounder_warm_up(make: Maker) -> Case:
    """Modules are loaded in the first step; the rest is fine and much longer."""
    ns = make.between(200_000, 500_000)
    first = [Manage("cuModuleLoadData", 3_000_000), *make.launches(10, ns)]
    steps = [first, *(make.launches(10, ns) for _ in range(59))]
    return Case(one_thread(loop(steps)), HEALTHY)


def confounder_whole_graphs(make: Maker) -> Case:
    """Graphs that were recorded as one block each."""
    ns = make.between(30_000, 90_000)
    graph = Graph([make.about(ns) for _ in range(40)], as_a_whole=True)
    return Case(one_thread(loop([[make.dispatch(), graph] for _ in range(60)])), HEALTHY)


def confounder_memsets(make: Maker) -> Case:
    """Memsets beside kernels, on another stream."""
    ns = make.between(80_000, 300_000)
    steps = [[Memset(make.about(ns / 2), SIDE), *make.launches(6, ns)] for _ in range(60)]
    return Case(one_thread([*make.launches(3, ns), *loop(steps)]), HEALTHY)


def confounder_early_kernel(make: Maker) -> Case:
    """One kernel of a busy program seems to begin long before its launch."""
    return Case(healthy_deep_queue(make).program, HEALTHY, tweaks=(_begin_one_early,), impossible=1)


def confounder_endless_kernel(make: Maker) -> Case:
    """One kernel of a busy program seems to run for an hour."""
    return Case(healthy_deep_queue(make).program, HEALTHY, tweaks=(_never_end_one,), impossible=1)


def confounder_shared_gpu(make: Maker) -> Case:
    """Two processes take turns on one GPU: while one waits, the other computes."""
    count, ns = 10, make.between(200_000, 500_000)

    def process(number: int, first_ns: int) -> Thread:
        step = [*make.launches(count, ns), Wait(), Work(round(0.25 * count * ns))]
        lead = [Work(first_ns)] if first_ns else []
        return Thread([*lead, *loop([step] * 20)], process=number, number=number)

    return Case(Program([process(1, 0), process(2, round(0.6 * count * ns))]), HEALTHY)


def confounder_small_blocks(make: Maker) -> Case:
    """Blocks of one thread keep the GPU busy with one of 32 lanes."""
    ns = make.between(80_000, 300_000)
    steps = [make.launches(20, ns) for _ in range(40)]
    return Case(one_thread(loop(steps)), "divergence", tweaks=(_one_thread_a_block,))


def confounder_starved_gpu(make: Maker) -> Case:
    """Three GPUs are fed, and the fourth waits for its input; on average little is lost."""
    ns, pause = make.between(100_000, 300_000), make.between(0.25, 0.35)
    length = 4 * (ns + 8_000)
    steps = round(60_000_000 / length)
    threads = [
        Thread(
            loop([make.launches(4, ns, stream=Stream(7, device)) for _ in range(steps)]), device + 1
        )
        for device in range(3)
    ]
    idle = [
        [
            Work(make.about(length * pause)),
            *make.launches(4, ns * (1 - pause), stream=Stream(7, 3)),
            Wait("cudaStreamSynchronize", Stream(7, 3)),
        ]
        for _ in range(steps)
    ]
    return Case(Program([*threads, Thread(loop(idle), 4)], devices=4), "host", also_right=("sync",))


# --- what cannot be told --------------------------------------------------------------------


def untold_no_gpu(make: Maker) -> Case:
    """CUDA was not traced."""
    case = host_input(make)
    return Case(case.program, UNKNOWN, tweaks=(_only_the_host,))


def untold_no_calls(make: Maker) -> Case:
    """The API calls were not recorded, and the GPU idles, unless the trouble drawn is weak."""
    case = make.random.choice([sync_every_kernel, launch_small_kernels, host_input])(make)
    is_weak = sum(true_losses(case.program).values()) < WEAK_BELOW * execute(case.program)
    busy = (HEALTHY,) if is_weak else ()
    return Case(case.program, UNKNOWN, tweaks=(_without_calls,), also_right=busy)


def untold_no_correlation(make: Maker) -> Case:
    """The correlation ids are lost."""
    case = make.random.choice([sync_every_kernel, launch_small_kernels])(make)
    return Case(case.program, UNKNOWN, tweaks=(_without_correlation,))


def untold_lost_kernels(make: Maker) -> Case:
    """A third of the kernels was dropped."""
    case = sync_every_kernel(make)
    return Case(case.program, UNKNOWN, tweaks=(_drop_kernels,))


def untold_truncated(make: Maker) -> Case:
    """The file ends in the middle."""
    return Case(sync_every_kernel(make).program, UNKNOWN, spoil=_cut_in_half)


def untold_unfinished(make: Maker) -> Case:
    """The recording ended before the last third of what was submitted had run."""
    return Case(healthy_deep_queue(make).program, UNKNOWN, tweaks=(_drop_last_kernels,))


def untold_time_slices(make: Maker) -> Case:
    """Another process has the GPU for turns of 2.7 ms, and the recording is of this one only."""
    return Case(healthy_deep_queue(make).program, UNKNOWN, tweaks=(_share_the_gpu,))


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _migrate_inside_kernels(recorder: Recorder) -> None:
    for kernel in recorder.rows(PREFIX + "KERNEL")[::10]:
        place = {k: kernel[k] for k in ("deviceId", "contextId", "globalPid")}
        middle = (kernel["start"] + kernel["end"]) // 2
        recorder.rows(PREFIX + "MEMCPY").append(
            {
                **place,
                "start": middle,
                "end": middle + 2_000,
                "correlationId": 0,
                "streamId": 0,
                "bytes": 65_536,
                "copyKind": UNIFIED_TO_DEVICE,
                "srcKind": MANAGED,
                "dstKind": MANAGED,
            }
        )


def _page_out_at_the_end(recorder: Recorder) -> None:
    kernels = recorder.rows(PREFIX + "KERNEL")
    first, last = min(k["start"] for k in kernels), max(k["end"] for k in kernels)
    place = {k: kernels[-1][k] for k in ("deviceId", "contextId", "globalPid")}
    pages = {"correlationId": 0, "streamId": 0, "bytes": 65_536, "copyKind": UNIFIED_TO_HOST}
    each = 5 * (last - first) // 200
    for number in range(200):
        begin = last + 10_000 + number * each
        ends = {"start": begin, "end": begin + 8_000, "srcKind": MANAGED, "dstKind": MANAGED}
        recorder.rows(PREFIX + "MEMCPY").append({**place, **pages, **ends})


def _capture_at_the_begin(recorder: Recorder) -> None:
    calls = recorder.rows(PREFIX + "RUNTIME")
    begin, template = min(c["start"] for c in calls) - 6_000_000, dict(calls[0])
    names = ["cudaStreamBeginCapture", *["cudaLaunchKernel"] * 400, "cudaStreamEndCapture"]
    for number, name in enumerate(names):
        start = begin + number * 10_000
        name_id = recorder.recording.string(f"{name}_v10000")
        row = {"start": start, "end": start + 4_000, "nameId": name_id}
        calls.append(template | row | {"correlationId": 9_000_000 + number})


def _begin_one_early(recorder: Recorder) -> None:
    kernel = recorder.rows(PREFIX + "KERNEL")[-5]
    length = kernel["end"] - kernel["start"]
    kernel["start"] = recorder.rows(PREFIX + "KERNEL")[0]["start"] - 900_000_000
    kernel["end"] = kernel["start"] + length


def _never_end_one(recorder: Recorder) -> None:
    kernel = recorder.rows(PREFIX + "KERNEL")[-5]
    kernel["end"] = kernel["start"] + 3_600_000_000_000


def _share_the_gpu(recorder: Recorder) -> None:
    late, turn = 0, 2_700_000
    for row in recorder.rows(PREFIX + "KERNEL"):
        if row["start"] > (late // turn + 1) * 2 * turn:
            late += turn
        row["start"], row["end"] = row["start"] + late, row["end"] + late


def _one_thread_a_block(recorder: Recorder) -> None:
    for row in recorder.rows(PREFIX + "KERNEL"):
        row["gridX"], row["blockX"] = row["gridX"] * row["blockX"], 1


def _drop_last_kernels(recorder: Recorder) -> None:
    rows = recorder.rows(PREFIX + "KERNEL")
    del rows[2 * len(rows) // 3 :]


def _forget_first_calls(recorder: Recorder) -> None:
    del recorder.rows(PREFIX + "RUNTIME")[:40]


def _open_last_range(recorder: Recorder) -> None:
    recorder.rows("NVTX_EVENTS")[-1]["end"] = None


def _only_the_host(recorder: Recorder) -> None:
    for table in ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME", "SYNCHRONIZATION"):
        recorder.forget(PREFIX + table)


def _without_calls(recorder: Recorder) -> None:
    recorder.forget(PREFIX + "RUNTIME")


def _without_correlation(recorder: Recorder) -> None:
    for row in recorder.rows(PREFIX + "KERNEL"):
        row["correlationId"] = 0


def _drop_kernels(recorder: Recorder) -> None:
    rows = recorder.rows(PREFIX + "KERNEL")
    rows[:] = [row for place, row in enumerate(rows) if place % 3]
