"""Programs of operators whose work is known, recorded with the shapes of what they read.

Lengths follow from the data sheet of the simulated H100: what an operator computes or moves, by
what the device does in a second, by the share of it that the kernel reaches.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence

from benchmarks.simulated.cases import Case, Maker, loop, one_thread
from benchmarks.simulated.program import Kernel, Operation, Range, Work

BYTES_PER_NS = 3_350.0
FLOP_PER_NS = {"bf16": 989_400.0, "tf32": 494_700.0, "fp32": 67_000.0}
ITEM = {"bf16": 2, "tf32": 4, "fp32": 4}
PRODUCTS = {
    "bf16": "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas",
    "tf32": "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x16_cublas",
    "fp32": "ampere_sgemm_128x128_tn",
}
TYPES = {"bf16": "c10::BFloat16", "tf32": "float", "fp32": "float"}
_POINTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::{}<{}>>"
OPERANDS = {"add": 2, "mul": 2, "gelu": 1, "silu": 1}
HALF = 0.5  # how likely it is that nobody else reads what lies between
GOAL = 0.8  # share of the roof that every kernel reaches after the change


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        name: Operator without ``aten::``.
        rows: First dimension of what is read first.
        columns: Last dimension of what is written.
        inner: Dimension that a product sums over, 0 for other operators.
        kind: Type of its data.
    """

    name: str
    rows: int
    columns: int
    kind: str
    inner: int = 0

    @property
    def elements(self) -> int:
        """Elements that are written."""
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        """Bytes that must move."""
        read = (self.rows + self.columns) * self.inner or OPERANDS[self.name] * self.elements
        return ITEM[self.kind] * (read + self.elements)

    @property
    def least_ns(self) -> float:
        """What the device needs at least."""
        flop = 2 * self.elements * self.inner
        return max(flop / FLOP_PER_NS[self.kind], self.bytes / BYTES_PER_NS)

    def operations(self, make: Maker, share: float) -> list[Operation]:
        """Return the call, whose kernel reaches a share of what the device allows."""
        sizes: tuple[tuple[int, int], ...]
        if self.inner:
            sizes = ((self.rows, self.inner), (self.inner, self.columns))
            kernel = PRODUCTS[self.kind]
        else:
            sizes = ((self.rows, self.columns),) * OPERANDS[self.name]
            kernel = _POINTWISE.format(self.name, TYPES[self.kind])
        mark = Range(f"aten::{self.name}", "cpu_op", sizes, (TYPES[self.kind],) * len(sizes))
        return [make.dispatch(), mark, make.kernel(self.least_ns / share, name=kernel), Range()]


def read_call(mark: Range, kernel: Kernel) -> Call | None:
    """Return the call that a range with sizes is; None for another range."""
    if not mark.sizes:
        return None
    rows, columns = mark.sizes[0]
    kind = next((k for k, n in PRODUCTS.items() if n == kernel.name), "")
    if kind:
        return Call("mm", rows, mark.sizes[1][1], kind, columns)
    kind = "bf16" if mark.types[0] == TYPES["bf16"] else "fp32"
    return Call(mark.name.removeprefix("aten::"), rows, columns, kind)


# --- programs -----------------------------------------------------------------------------------


def products_below_the_roof(make: Maker) -> Case:
    """Products far below what the device allows, and element-wise kernels near it."""
    side = make.random.choice([1_024, 2_048, 4_096])
    share = make.between(0.25, 0.7)
    product = Call("mm", side, side, "bf16", make.random.choice([1_024, 4_096]))
    gelu = Call("gelu", side, side, "bf16")
    step = [(product, share), (gelu, 0.85), (product, share), (gelu, 0.6)]
    return Case(one_thread(loop([_step(make, step) for _ in range(40)])))


def chains_to_fuse(make: Maker) -> Case:
    """A product, and behind it operations that pass one large tensor from each to the next."""
    rows = make.random.choice([2_048, 8_192, 32_768])
    names = make.random.sample(list(OPERANDS), make.random.randrange(2, 5))
    share = make.between(0.5, 0.9)
    product = Call("mm", rows, 2_048, "bf16", 2_048)
    chain = [(Call(name, rows, 2_048, "bf16"), share) for name in names]
    return Case(one_thread(loop([_step(make, [(product, 0.7), *chain]) for _ in range(40)])))


def products_in_32_bits(make: Maker) -> Case:
    """Products in plain fp32 or TF32, with element-wise kernels between them."""
    kind, share = make.random.choice(["fp32", "tf32"]), make.between(0.4, 0.85)
    side = make.random.choice([2_048, 4_096])
    step = [(Call("mm", side, side, kind, 2_048), share), (Call("gelu", side, side, "fp32"), 0.8)]
    return Case(one_thread(loop([_step(make, step * 3) for _ in range(30)])))


def _step(make: Maker, calls: Sequence[tuple[Call, float]]) -> list[Operation]:
    return [o for call, share in calls for o in call.operations(make, share)]


# --- what becomes of them -----------------------------------------------------------------------


def near_the_roof(operations: Sequence[Operation]) -> list[Operation]:
    """Let every kernel reach ``GOAL`` of what the device allows, if it does not yet."""
    return _each_kernel(operations, lambda call, ns: min(ns, call.least_ns / GOAL))


def in_16_bits(operations: Sequence[Operation]) -> list[Operation]:
    """Compute products in 16 bits, as near to that roof as they were to theirs, or less near."""
    return _each_kernel(
        operations, lambda call, ns: min(_narrow(call, ns) * _chance(call).uniform(1, 2), ns)
    )


def in_16_bits_at_best(operations: Sequence[Operation]) -> list[Operation]:
    """Compute products in 16 bits, all as near to that roof as they were to theirs."""
    return _each_kernel(operations, _narrow)


def _narrow(call: Call, ns: float) -> float:
    """Return the length of a product in 16 bits at the same share of the roof."""
    if not call.inner:
        return ns
    return ns * dataclasses.replace(call, kind="bf16").least_ns / call.least_ns


def _chance(about: object) -> random.Random:
    return random.Random(str(about))


def _each_kernel(
    operations: Sequence[Operation], length: Callable[[Call, float], float]
) -> list[Operation]:
    """Give every kernel whose call is known another length."""
    result = list(operations)
    for place, (mark, kernel) in enumerate(itertools.pairwise(operations)):
        if isinstance(mark, Range) and isinstance(kernel, Kernel):
            call = read_call(mark, kernel)
            if call is not None:
                ns = int(length(call, kernel.ns))
                result[place + 1] = dataclasses.replace(kernel, ns=ns)
    return result


def fused(operations: Sequence[Operation]) -> list[Operation]:
    """Launch one kernel for each run of element-wise operators; some results are still written."""
    return _fused(operations, _one_kernel)


def fused_at_best(operations: Sequence[Operation]) -> list[Operation]:
    """Launch one kernel for each run of element-wise operators, which writes the last result."""
    return _fused(operations, _one_kernel_at_best)


def _fused(
    operations: Sequence[Operation], one_kernel: Callable[[Sequence[tuple[Call, Kernel]]], Kernel]
) -> list[Operation]:
    result: list[Operation] = []
    chain: list[tuple[Call, Kernel]] = []
    places = iter(range(len(operations)))
    for place in places:
        group = operations[place : place + 4]
        call = _call_of(group)
        if call is not None and not call.inner:
            chain.append((call, group[2]))  # type: ignore[arg-type]
            if len(chain) == 1:
                result += [group[0], group[1]]
            for _ in range(3):
                next(places)
            continue
        if chain:
            result += [one_kernel(chain), Range()]
            chain = []
        result.append(operations[place])
    return [*result, _one_kernel(chain), Range()] if chain else result


def _call_of(group: Sequence[Operation]) -> Call | None:
    """Return the call that a dispatch, a range, a kernel and the range's end are."""
    if len(group) < 4 or not isinstance(group[0], Work):
        return None
    mark, kernel = group[1], group[2]
    if not (isinstance(mark, Range) and isinstance(kernel, Kernel)):
        return None
    return read_call(mark, kernel)


def _one_kernel(chain: Sequence[tuple[Call, Kernel]]) -> Kernel:
    """Return the kernel that does all of a chain; of some results others are still in need."""
    moved = sum(call.bytes for call, _ in chain)
    links = [call.elements * ITEM[call.kind] for call, _ in chain[:-1]]
    chance = _chance([call for call, _ in chain])
    left = moved - sum(size * (1 + (chance.random() < HALF)) for size in links)
    ns = sum(kernel.ns for _, kernel in chain) * left / moved
    return dataclasses.replace(chain[0][1], ns=int(ns))


def _one_kernel_at_best(chain: Sequence[tuple[Call, Kernel]]) -> Kernel:
    """Return the kernel that moves nothing between, each part as fast as it was."""
    last = len(chain) - 1
    ns = 0.0
    for place, (call, kernel) in enumerate(chain):
        spared = (place > 0) + (place < last)
        ns += kernel.ns * (1 - spared * call.elements * ITEM[call.kind] / call.bytes)
    return dataclasses.replace(chain[0][1], ns=int(ns))
