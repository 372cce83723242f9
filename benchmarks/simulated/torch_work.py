"""Programs of PyTorch whose operators have known work, on an H100: what fusing or tuning would win.

The GPU always has work, so that only the shapes of operators tell what is lost. Ranges of Nsight
Systems have no types: from its recording, the same program may be taken for a healthy one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.simulated.cases import HEALTHY, Case, Maker, loop, one_thread
from benchmarks.simulated.program import Kernel, Operation, Range
from traces.nsys_writer import SYNTHETIC_RTX

# H100 SXM, dense (NVIDIA, "H100 Tensor Core GPU" datasheet).
HALF_FLOP_PER_NS, BYTES_PER_NS = 989_400.0, 3_350.0
HALF, SINGLE = "c10::Half", "float"
BYTES = {HALF: 2, SINGLE: 4}

GEMM = "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64"
ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::Functor<float>>"
SOFTMAX = "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>"
CHAINS, PRODUCTS = "bandwidth.unfused_chains", "compute.products_below_roof"
PIECES, CONVERSIONS = "bandwidth.unfused_attention", "bandwidth.conversions"
WEIGHTS, ATTENTION = "bandwidth.weight_reads", "compute.attention_below_roof"
SHORT = "parallelism.short_kernels"
DOUBLE = "compute.double_precision"
DGEMM, STENCIL = "ampere_dgemm_64x64_nn", "stencil(double const*, double*, int)"
LOSSES = (CHAINS, PRODUCTS, PIECES, CONVERSIONS, ATTENTION)
STEPS = 24

Shape = tuple[int, ...]


def work_unfused_chain(make: Maker) -> Case:
    """Four element-wise operators on one tensor behind each product, each near the bandwidth."""
    rate = make.between(0.7, 0.9)
    shape = (4_096, round(make.between(4_096, 8_192)) // 64 * 64)
    names = make.random.sample(["aten::mul", "aten::add", "aten::sub", "aten::maximum"], 4)
    chain = [_moved(make, name, [shape, shape], SINGLE, 3, rate) for name in names]
    program = _steps([_product(make, 4_096, 4_096, 4_096, make.between(0.6, 0.75)), *chain])
    spared = 3 * 2 * math.prod(shape) * BYTES[SINGLE] / (BYTES_PER_NS * rate)
    return Case(
        one_thread(program),
        HEALTHY,
        planted_with_operators="bandwidth",
        also_right=("bandwidth",),
        has_with_operators=((CHAINS, "chains such as "),),
        saves_with_operators=((CHAINS, round(STEPS * spared * make.random.choice((0.55, 0.95)))),),
        never=(PRODUCTS, PIECES, CONVERSIONS),
    )


def work_slow_products(make: Maker) -> Case:
    """Products at a quarter to two fifths of the peak, and what they could be at 0.7 of it."""
    rate, size = make.between(0.25, 0.4), make.random.choice((2_048, 3_072, 4_096))
    columns = size + make.random.choice((0, 3))
    product = _product(make, size, size, columns, rate)
    program = _steps([product, product])
    each = 2 * size * size * columns / HALF_FLOP_PER_NS
    words = f"{columns:,} is no multiple of 8" if columns % 8 else "matrix multiplies at "
    return Case(
        one_thread(program),
        HEALTHY,
        planted_with_operators="compute",
        also_right=("compute",),
        has_with_operators=((PRODUCTS, words),),
        saves_with_operators=((PRODUCTS, round(2 * STEPS * each * (1 / rate - 1 / 0.7))),),
        never=(CHAINS, PIECES, CONVERSIONS),
    )


def work_attention_in_pieces(make: Maker) -> Case:
    """Scores that are scaled, masked and made weights by three kernels between two products."""
    heads, length, rate = 64, make.random.choice((1_024, 2_048)), make.between(0.7, 0.9)
    scores, sides = (heads, length, length), (heads, length, 64)
    pieces = [
        _moved(make, "aten::mul", [scores, ()], SINGLE, 2, rate),
        _moved(make, "aten::add", [scores, (1, length, length)], SINGLE, 2, rate),
        _moved(make, "aten::_softmax", [scores, ()], SINGLE, 2, rate, SOFTMAX),
    ]
    products = [
        _matrices(make, [sides, (heads, 64, length)], make.between(0.5, 0.7)),
        _matrices(make, [scores, sides], make.between(0.5, 0.7)),
    ]
    program = _steps([products[0], *pieces, products[1]])
    between = 3 * 2 * math.prod(scores) * BYTES[SINGLE] / (BYTES_PER_NS * rate)
    return Case(
        one_thread(program),
        HEALTHY,
        planted_with_operators="bandwidth",
        also_right=("bandwidth",),
        has_with_operators=((PIECES, "Attention is computed in pieces"),),
        saves_with_operators=((PIECES, round(STEPS * between * make.random.uniform(0.6, 0.95))),),
        never=(CHAINS, PRODUCTS),
    )


def work_casts(make: Maker) -> Case:
    """Weights that are cast for each product."""
    rate, size = make.between(0.6, 0.85), round(make.between(4_096, 6_144)) // 64 * 64
    cast = _moved(make, "aten::copy_", [(size, size)] * 2, SINGLE, 1.5, rate, to=HALF)
    program = _steps([cast, _product(make, 1_024, size, size, make.between(0.6, 0.75))])
    spent = 1.5 * size * size * BYTES[SINGLE] / (BYTES_PER_NS * rate)
    return Case(
        one_thread(program),
        HEALTHY,
        planted_with_operators="bandwidth",
        also_right=("bandwidth",),
        has_with_operators=((CONVERSIONS, " in casts"),),
        saves_with_operators=((CONVERSIONS, round(STEPS * spent * make.random.uniform(0.3, 0.9))),),
        never=(CHAINS, PRODUCTS, PIECES),
    )


def work_near_the_roof(make: Maker) -> Case:
    """Products at two thirds of the peak; sums of other sizes, none of which follows another."""
    shapes = [(4_096, 4_096), (4_096, 2_048)]
    sums = [_moved(make, "aten::add", [s, s], SINGLE, 3, make.between(0.6, 0.95)) for s in shapes]
    products = [_product(make, 4_096, 4_096, 4_096, make.between(0.55, 0.75)) for _ in sums]
    program = _steps([products[0], sums[0], sums[1], products[1]])
    return Case(one_thread(program), HEALTHY, never=LOSSES, has_shapes=True)


def work_decoding(make: Maker) -> Case:
    """Products of few rows, as fast as their weights can be read."""
    rows = make.random.choice((1, 8, 32, 64))
    sizes = [(4_096, 12_288), (4_096, 4_096), (4_096, 24_576), (12_288, 4_096)]
    products = [_product(make, rows, inner, n, make.between(0.6, 0.9)) for inner, n in sizes]
    return Case(
        one_thread(_steps(products)),
        HEALTHY,
        never=LOSSES,
        has_shapes=True,
        has_with_operators=((WEIGHTS, f"of few rows, mostly {rows}, read "),),
    )


def work_short_kernels(make: Maker) -> Case:
    """Eight kernels in a row that take what starting one takes, then a product, over and over."""
    shorts = [make.between(1_600, 2_400) for _ in range(8)]
    product = make.between(12_000, 25_000)
    names = ("rms_norm_kernel", "rotary_embedding_kernel", "store_cache_kernel", "copy_kernel")
    step = [
        *(_quick(ns, names[n % len(names)]) for n, ns in enumerate(shorts)),
        _quick(product, "gemm_kernel"),
    ]
    program = loop([[o for operations in step for o in operations] * 10] * STEPS, "step")
    saved = 10 * STEPS * (sum(shorts) - max(shorts)) * make.random.uniform(0.5, 0.95)
    return Case(
        one_thread(program),
        "parallelism",
        also_right=("launch",),  # the pauses between them cost as much
        has=((SHORT, " follow each other in "),),
        never=LOSSES,
        saves_with_operators=((SHORT, round(saved)),),
    )


def work_short_kernels_alone(make: Maker) -> Case:
    """One short kernel between products; and runs of kernels that are long enough to do work."""
    step = [
        *_quick(make.between(1_600, 2_400), "rms_norm_kernel"),
        *_quick(30_000, "gemm_kernel"),
        *(o for _ in range(4) for o in _quick(make.between(4_500, 9_000), "copy_kernel")),
        *_quick(make.between(12_000, 25_000), "gemm_kernel"),
    ]
    return Case(one_thread(loop([step * 10] * STEPS, "step")), HEALTHY, never=(*LOSSES, SHORT))


def _quick(ns: float, name: str) -> list[Operation]:
    """Return a launch that costs the host less than the shortest kernel takes."""
    return [Kernel(round(ns), name=name, call_ns=1_000)]


def work_double_precision(make: Maker) -> Case:
    """Products and updates in 64 bits on a GPU that has two such units for 128 of 32 bits."""
    product, update = make.between(400_000, 900_000), make.between(100_000, 300_000)
    saved = STEPS * (
        product * make.random.uniform(0.6, 0.97) + update * make.random.uniform(0.3, 0.9)
    )
    return Case(
        one_thread(_double_steps(make, product, update)),
        HEALTHY,
        has=((DOUBLE, " computed with 64-bit numbers for "),),
        never=LOSSES,
        gpu=SYNTHETIC_RTX,
        saves_with_operators=((DOUBLE, round(saved)),),
    )


def work_double_precision_for_science(make: Maker) -> Case:
    """The same on a GPU that computes half as many results in 64 bits as in 32."""
    program = _double_steps(make, make.between(400_000, 900_000), make.between(100_000, 300_000))
    return Case(one_thread(program), HEALTHY, never=(*LOSSES, DOUBLE))


def _double_steps(make: Maker, product_ns: float, update_ns: float) -> list[Operation]:
    lengths = ((product_ns, DGEMM), (update_ns, STENCIL))
    step = [
        operation
        for ns, name in lengths
        for operation in (make.dispatch(2_000), Kernel(round(ns), name=name))
    ]
    return loop([step] * STEPS, "step")


def _steps(operators: Sequence[Sequence[Operation]]) -> list[Operation]:
    return loop([[o for operator in operators for o in operator]] * STEPS, "step")


def _product(make: Maker, rows: int, inner: int, columns: int, rate: float) -> list[Operation]:
    return _matrices(make, [(rows, inner), (inner, columns)], rate)


def _matrices(make: Maker, shapes: Sequence[Shape], rate: float) -> list[Operation]:
    """Return a product of matrices in 16 bits that reaches a part of its limit."""
    (*batch, rows, inner), columns = shapes[0], shapes[1][-1]
    written = math.prod(batch) * rows * columns
    moved = (sum(math.prod(s) for s in shapes) + written) * BYTES[HALF]
    least_ns = max(2 * written * inner / HALF_FLOP_PER_NS, moved / BYTES_PER_NS)
    name = "aten::bmm" if batch else "aten::mm"
    return _called(make, Range(name, "cpu_op", tuple(shapes), (HALF, HALF)), least_ns / rate, GEMM)


def _moved(
    make: Maker,
    name: str,
    shapes: Sequence[Shape],
    kind: str,
    passes: float,
    rate: float,
    kernel: str = ELEMENTWISE,
    to: str = "",
) -> list[Operation]:
    """Return an element-wise operator that reads and writes its largest input so many times."""
    least_ns = passes * max(math.prod(s) for s in shapes if s) * BYTES[kind] / BYTES_PER_NS
    types = [kind if s else "Scalar" for s in shapes]
    types[0] = to or types[0]
    mark = Range(name, "cpu_op", tuple(shapes), tuple(types))
    return _called(make, mark, least_ns / rate, kernel)


def _called(make: Maker, mark: Range, ns: float, kernel: str) -> list[Operation]:
    launch = Kernel(max(1, round(ns)), name=kernel, call_ns=make.about(3_000))
    return [mark, make.dispatch(2_000), launch, Range()]
