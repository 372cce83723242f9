"""Another machine is an answer of its own: hardware, software, and what nobody knows, to the ns."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.compare.compare import compare
from analyzers.compare.hardware import BelowProgram
from analyzers.compare.machine_change import machine_change
from analyzers.compare.measure import measure
from analyzers.compare.side import WorkKey
from analyzers.compare.types import ComparisonVerdict
from analyzers.compare.work_changes import work_changes
from analyzers.finding import Row
from analyzers.ledger.booking import ROW_CODE
from benchmarks.simulated import known_work
from benchmarks.simulated.cases import Maker
from cli.gate import ANSWERED, INCONCLUSIVE, REGRESSED, gate
from reports.comparison import comparison_summary
from reports.machines import machine_title, parts_sentence
from reports.terminal import terminal_text
from tests.compare_scenarios import kernels_of, side, work_of
from tests.whatif_helpers import facts_of

US = 1_000
A100, H100 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"
MM = WorkKey("matmul", "aten::mm", "[[8,8],[8,8]]", '["float","float"]')
ADD = WorkKey("elementwise", "aten::add", "[[8,8],[8,8]]", '["float","float"]')
OTHER = WorkKey("other", "", "", "", "my_kernel")


def on_machine(gpu, length_us, work, least, name="run.sqlite"):
    """Return a side whose iterations have so much kernel time by kind of work, in µs."""
    count = 9
    made = work_of({key: (us * US, 1) for key, us in work.items()}, count, least)
    plain = side([length_us] * count, name=name, gpu=gpu)
    kernel_ns = sum(work.values()) * US
    table = np.zeros_like(plain.ledger_ns)
    table[:, ROW_CODE[Row.KERNEL]] = kernel_ns
    table[:, ROW_CODE[Row.HOST]] = length_us * US - kernel_ns
    return side([length_us] * count, name=name, gpu=gpu, work=made, ledger_ns=table)


def pair():
    """Return 100 µs on an A100 and 60 µs on an H100, whose limits are twice as high for both."""
    base = on_machine(A100, 100.0, {MM: 40, ADD: 20, OTHER: 10}, [20 * US, 10 * US, 0])
    new = on_machine(H100, 60.0, {MM: 15, ADD: 14, OTHER: 6}, [10 * US, 5 * US, 0], "new.sqlite")
    return base, new


def test_two_machines_are_told_by_their_parts_and_nothing_is_charged_to_the_program():
    base, new = pair()
    answer = compare([base], [new])
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert answer.sentence == (
        "Different machines: an iteration takes 100 µs on NVIDIA A100-SXM4-80GB and 60 µs on "
        "NVIDIA H100 80GB HBM3, 1.67 × as fast. The program is neither credited nor charged with "  # noqa: RUF001
        "it. To compare them all the same: whyslow compare --anyway."
    )
    machines = answer.machines
    assert (machines.base_ns, machines.new_ns) == (100 * US, 60 * US)
    assert machines.hardware_ns == -30 * US  # half of 40 and of 20
    assert machines.software_ns == -5 * US + 4 * US  # products come nearer, additions less near
    assert machines.unattributed_ns == -4 * US
    assert machines.outside_ns == -5 * US  # 30 µs without a kernel became 25
    assert [(c.work_class, c.hardware_ns, c.software_ns) for c in machines.classes] == [
        ("matmul", -20 * US, -5 * US),
        ("elementwise", -10 * US, 4 * US),
        ("other", 0, 0),
    ]
    limits = {limit.name: (limit.base, limit.new) for limit in machines.limits}
    assert limits["memory bandwidth"] == (2_039e9, 3_350e9)
    told = json.loads(answer.to_json())
    assert told["machines"]["hardware_ns"] == -30 * US
    assert told["delta"] is None
    assert gate(answer, 0.03).status == INCONCLUSIVE


def test_the_summary_shows_classes_and_limits():
    base, new = pair()
    text = terminal_text(comparison_summary(compare([base], [new])))
    assert "hardware (what the limits of the GPUs explain) \N{MINUS SIGN}30 µs" in text
    assert "matrix multiplies" in text
    assert "2,039 GB/s" in text


def test_parts_of_a_forced_comparison_are_the_same():
    base, new = pair()
    refused, forced = (compare([base], [new], anyway=anyway) for anyway in (False, True))
    assert forced.delta is not None
    assert forced.machines == refused.machines
    assert compare([base], [base]).machines is None


@pytest.mark.parametrize(("least_us", "hardware_us"), [(4.0, -20), (3.9, 0)])
def test_kernels_far_from_their_roof_are_not_explained_by_it(least_us, hardware_us):
    base = on_machine(A100, 100.0, {MM: 40}, [least_us * US])
    new = on_machine(H100, 60.0, {MM: 30}, [least_us * US / 2], "new.sqlite")
    machines = compare([base], [new]).machines
    assert machines.hardware_ns == hardware_us * US
    assert machines.hardware_ns + machines.software_ns + machines.unattributed_ns == -10 * US


def test_without_shapes_nothing_is_called_hardware():
    base = on_machine(A100, 100.0, {OTHER: 40}, [0])
    new = on_machine(H100, 60.0, {OTHER: 20}, [0], "new.sqlite")
    answer = compare([base], [new])
    assert answer.machines.hardware_ns == answer.machines.software_ns == 0
    assert answer.machines.unattributed_ns == -20 * US
    assert "record_shapes=True" in terminal_text(comparison_summary(answer))


def test_what_differs_besides_the_machine_forbids_the_times_too():
    base, new = pair()
    other_tool = {**new.source, "format": "torch-json"}
    answer = compare([base], [side([60.0] * 9, gpu=H100, name="t", source=other_tool)])
    assert answer.machines is None
    assert answer.sentence.startswith("Not comparable")
    assert new.work.least_ns[0] == 10 * US


def with_driver(level, driver):
    telemetry = {"driver": driver} if driver else {}
    return side([level] * 9, name=f"{level}", telemetry=telemetry)


@pytest.mark.parametrize(
    ("driver", "status"), [("550.1", INCONCLUSIVE), ("535.2", REGRESSED), ("", REGRESSED)]
)
def test_a_regression_under_another_driver_is_not_charged_to_the_program(driver, status):
    answer = compare([with_driver(50.0, "535.2")], [with_driver(100.0, driver)])
    assert gate(answer, 0.03).status == status
    prefix = "Different drivers, 535.2 and 550.1: the change is that of driver and program together"
    assert answer.sentence.startswith(prefix) is (status == INCONCLUSIVE)
    faster = compare([with_driver(100.0, "535.2")], [with_driver(50.0, driver)])
    assert gate(faster, 0.03).status == ANSWERED


HALF_MM = MM._replace(types='["c10::Half","c10::Half"]')
SGEMM, TF32, SIMT = "ampere_sgemm_128x64_nn", "cutlass_tensorop_s1688gemm_tf32", "sgemm_32x32"


def with_kernel(gpu, length_us, work, kernel, name, **changes):
    """Return a side all of whose work runs in launches of one kernel."""
    plain = on_machine(gpu, length_us, work, [0] * len(work), name)
    kernels = kernels_of(
        {(kernel, (64, 1, 1, 256, 1, 1)): sum(work.values()) * US}, 9, [0] * len(work),
        work=list(range(len(work))),
    )  # fmt: skip
    return dataclasses.replace(plain, kernels=kernels, **changes)


def test_the_same_operator_in_another_type_is_other_precision_not_hardware():
    base = with_kernel(H100, 100.0, {MM: 80}, SGEMM, "base")
    new = with_kernel(H100, 60.0, {HALF_MM: 35}, "hgemm", "new")
    answer = compare([base], [new], anyway=True)
    machines = answer.machines
    assert dict(machines.parts) == {
        "other precision": -45 * US,
        "the same kernels, at another speed or in another number": 0,
        "kernels of one side only": 0,
        "time without a kernel (host, driver, copies, waiting)": 5 * US,
    }
    assert [str(b) for b in machines.below] == ["precision of aten::mm (fp32 to fp16)"]
    assert answer.sentence.endswith(
        "45 µs less is in operators that compute in another precision (aten::mm: fp32 to fp16): "
        "check that the results are still good enough."
    )
    text = terminal_text(comparison_summary(answer))
    assert "Different precision" in text
    assert "What differs below the program: precision of aten::mm (fp32 to fp16)." in text
    back = compare([new], [base], anyway=True)  # a wider type: nothing is lost
    assert back.sentence.endswith("another precision (aten::mm: fp16 to fp32).")
    on_other_gpu = with_kernel(A100, 100.0, {MM: 80}, SGEMM, "base")
    parts = dict(compare([on_other_gpu], [new], anyway=True).machines.parts)
    assert parts["other precision"] == -45 * US
    assert parts["hardware (what the limits of the GPUs explain)"] == 0


def test_products_that_matrix_units_multiply_in_tf32_compute_in_another_precision():
    sides = [
        with_kernel(H100, length, {MM: us}, kernel, kernel)
        for length, us, kernel in ((100.0, 80, SGEMM), (60.0, 40, TF32), (60.0, 40, SIMT))
    ]
    machines = compare(sides[:1], sides[1:2], anyway=True).machines
    assert machines.precision_ns == -40 * US
    assert str(machines.below[0]) == "precision of aten::mm (fp32 to tf32)"
    both_in_fp32 = compare(sides[:1], sides[2:], anyway=True)
    assert both_in_fp32.machines is None


@pytest.mark.parametrize(("half_us", "precision_us"), [(1.0, -1.0), (0.5, 0)])
def test_under_a_hundredth_of_the_time_in_another_precision_is_not_spoken_of(half_us, precision_us):
    base = with_kernel(H100, 100.0, {MM: half_us, ADD: 60}, SGEMM, "base")
    new = with_kernel(A100, 100.0, {HALF_MM: half_us / 2, ADD: 60}, SGEMM, "new")
    machines = compare([base], [new], anyway=True).machines
    assert machines.precision_ns * 2 == precision_us * US


def test_under_another_driver_other_kernels_are_told_from_the_same_ones():
    def on_driver(length, us, kernel, driver):
        telemetry = {"driver": driver}
        return with_kernel(H100, length, {MM: us}, kernel, driver, telemetry=telemetry)

    base = on_driver(100.0, 80, SGEMM, "535")
    for kernel, other_us, own_us in ((SIMT, -30, 0), (SGEMM, 0, -30)):
        answer = compare([base], [on_driver(70.0, 50, kernel, "550")], anyway=True)
        machines = answer.machines
        assert machines.other_kernels_ns == other_us * US
        assert machines.software_ns - machines.other_kernels_ns == own_us * US
        assert machines.hardware_ns == machines.unattributed_ns == machines.outside_ns == 0
        assert json.loads(answer.to_json())["machines"]["below"] == [
            {"name": "driver", "base": "535", "new": "550", "operator": ""}
        ]
        assert "Different driver" in terminal_text(comparison_summary(answer))


@pytest.mark.parametrize(
    ("base", "new", "narrower"),
    [
        ("fp32", "bf16", True),
        ("bf16", "fp32", False),
        ("fp32", "tf32", True),
        ("tf32", "fp16", True),  # in range
        ("fp16", "bf16", True),  # in digits
        ("fp32", "bf16, fp32", True),
        ("bf16, fp32", "fp32", False),
        ("bf16, fp32", "bf16, fp64", False),
        ("fp8", "bf16", False),
        ("fp32", "new type", False),
    ],
)
def test_only_a_narrower_type_may_cost_accuracy(base, new, narrower):
    assert BelowProgram(name="precision", base=base, new=new).is_narrower is narrower


def test_several_things_that_differ_are_enumerated():
    names = ("driver", "CUDA", "PyTorch")
    below = tuple(BelowProgram(name=n, base="1", new="2") for n in names)
    drivers = compare([with_driver(50.0, "535.2")], [with_driver(100.0, "550.1")])
    machines = dataclasses.replace(drivers.machines, below=below)
    assert machine_title(machines) == "Different driver, CUDA and PyTorch"
    assert parts_sentence(machines, "").startswith(
        "What differs below the program: driver (1 to 2)"
    )


TIMES = st.lists(st.integers(0, 40), min_size=3, max_size=3)
LEAST = st.lists(st.floats(0, 1e5), min_size=3, max_size=3)


@settings(max_examples=30)
@given(times=st.tuples(TIMES, TIMES), least=st.tuples(LEAST, LEAST))
def test_the_parts_always_sum_to_the_change(times, least):
    sides = [
        on_machine(gpu, 150.0 + n, dict(zip((MM, ADD, OTHER), t, strict=True)), limit, gpu)
        for n, (gpu, t, limit) in enumerate(zip((A100, H100), times, least, strict=True))
    ]
    both = sides[:1], sides[1:]
    machines = machine_change(*both, work_changes(*both))
    assert sum(ns for _, ns in machines.parts) == machines.change_ns == US
    for one in machines.classes:
        parts = one.hardware_ns + one.precision_ns + one.software_ns + one.unattributed_ns
        assert parts == one.new_ns - one.base_ns


@pytest.mark.parametrize("seed", [0])
def test_least_times_of_calls_come_from_their_shapes(seed, tmp_path):
    program = known_work.products_below_the_roof(Maker(seed)).program
    found = measure(facts_of(tmp_path, program))
    least = dict(zip((k.operator for k in found.work.keys), found.work.least_ns, strict=True))
    mark = next(o for t in program.threads for o in t.operations if getattr(o, "sizes", ()))
    rows, inner = mark.sizes[0]
    columns = mark.sizes[1][1]
    call = known_work.Call("mm", rows, columns, "bf16", inner)
    assert least["aten::mm"] == pytest.approx(call.least_ns, rel=0.02)
