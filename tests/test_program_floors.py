"""The floors that predictions about simulated programs are held to are sums of their parts."""

from benchmarks import program_floors
from benchmarks.program_floors import floor_ns
from benchmarks.simulated.cases import one_thread
from benchmarks.simulated.program import TO_HOST, Copy, Kernel, Stream, Wait, Work
from benchmarks.simulated.rules import BUS_BYTES_PER_NS
from tests.whatif_helpers import MS, SEVEN, SIDE, US


def floor_of(operations, changed=None):
    return floor_ns(one_thread(operations), [operations if changed is None else changed])


def test_the_kernels_of_a_stream_add_up_and_those_of_two_do_not():
    assert floor_of([Kernel(MS, stream=SEVEN), Kernel(2 * MS, stream=SEVEN)]) == 3 * MS
    assert floor_of([Kernel(MS, stream=SEVEN), Kernel(2 * MS, stream=SIDE)]) == 2 * MS


def test_copies_of_one_direction_share_an_engine():
    size = MS * BUS_BYTES_PER_NS
    down = [Copy(size, stream=SEVEN), Copy(size, stream=SIDE)]
    assert floor_of(down) == 2 * MS
    both = [Copy(size, stream=SEVEN), Copy(size, TO_HOST, stream=SIDE)]
    assert floor_of(both) == MS
    assert floor_of([Copy(size), Copy(size, stream=Stream(9, device=1))]) == MS


def test_a_thread_works_between_its_first_and_last_submission():
    work = Work(MS)
    thread = [Work(9 * MS), Kernel(US), work, Wait(), Kernel(US), Kernel(US), Work(9 * MS)]
    expected = MS + 4 * US - program_floors.SUBMIT_NS  # and one launch call of 4 µs between
    assert floor_of(thread) == expected


def test_what_a_change_takes_away_leaves_no_floor():
    pause, dispatch = Work(MS), Work(5 * US, is_dispatch=True)
    thread = [Kernel(US), pause, dispatch, Kernel(US)]
    changed = [o for o in thread if o is not pause]
    assert floor_of(thread) == MS + 5 * US - program_floors.SUBMIT_NS
    assert floor_of(thread, changed) == 2 * US  # its kernels: the dispatch was one pause with it
