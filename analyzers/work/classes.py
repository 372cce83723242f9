"""What kind of work a GPU operation does: from its operator when known, else its kernel's name.

Names are data: ``operator_classes.tsv`` and ``kernel_classes.tsv`` hold a class, a pattern, and a
source or an example, in a line each; the first line that fits counts.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CODE_OF, NO_TYPE

MAX_NAME = 600  # characters of a kernel's name that are looked at; what it is stands in front


class WorkClass(StrEnum):
    """A kind of work."""

    MATMUL = "matmul"
    CONVOLUTION = "convolution"
    ATTENTION = "attention"
    NORMALISATION = "normalisation"
    SOFTMAX = "softmax"
    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    LAYOUT = "layout"
    GATHER = "gather"
    OPTIMIZER = "optimizer"
    SORT = "sort"
    RANDOM = "random"
    QUANTISE = "quantise"
    MOE = "moe"
    RECURRENT = "recurrent"
    FFT = "fft"
    SPARSE = "sparse"
    COLLECTIVE = "collective"
    MEMORY = "memory"
    GRAPH = "graph"
    OTHER = "other"


CLASSES = tuple(WorkClass)
CODES = {one: code for code, one in enumerate(CLASSES)}

TITLES = {
    WorkClass.MATMUL: "matrix multiplies",
    WorkClass.CONVOLUTION: "convolutions",
    WorkClass.ATTENTION: "attention",
    WorkClass.NORMALISATION: "normalisations",
    WorkClass.SOFTMAX: "softmax",
    WorkClass.ELEMENTWISE: "element-wise kernels",
    WorkClass.REDUCTION: "reductions",
    WorkClass.LAYOUT: "casts, copies and layout changes",
    WorkClass.GATHER: "gathers, scatters and embeddings",
    WorkClass.OPTIMIZER: "optimizer steps",
    WorkClass.SORT: "sorts, scans and sampling",
    WorkClass.RANDOM: "random numbers",
    WorkClass.QUANTISE: "quantisation",
    WorkClass.MOE: "mixtures of experts",
    WorkClass.RECURRENT: "recurrent layers",
    WorkClass.FFT: "Fourier transforms",
    WorkClass.SPARSE: "sparse operations",
    WorkClass.COLLECTIVE: "collectives",
    WorkClass.MEMORY: "copies and memsets",
    WorkClass.GRAPH: "CUDA graphs that were recorded as a whole",
    WorkClass.OTHER: "kernels of no known class",
}
"""What the work of a class is called, in the middle of a sentence."""

MODEL_CLASSES = (WorkClass.MATMUL, WorkClass.CONVOLUTION, WorkClass.ATTENTION, WorkClass.MOE)
"""Classes whose operations count as those of the model, as in papers about its utilisation."""


class Pattern(NamedTuple):
    """One line of a table of names."""

    work_class: WorkClass
    pattern: re.Pattern[str]
    source: str


@functools.cache
def patterns(table: str) -> tuple[Pattern, ...]:
    """Return the lines of ``operator_classes`` or ``kernel_classes``, in order."""
    with (Path(__file__).parent / f"{table}.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(Pattern(WorkClass(c), re.compile(p), source) for c, p, source in rows[1:])


@functools.lru_cache(maxsize=65_536)
def operator_class(name: str) -> WorkClass | None:
    """Return the class of an operator's work; None when its name tells nothing."""
    return next(
        (p.work_class for p in patterns("operator_classes") if p.pattern.fullmatch(name)), None
    ) or (operator_class_of_kernel(name) if name.startswith("triton_") else None)


def operator_class_of_kernel(name: str) -> WorkClass | None:
    """Return the class of an operator that is called like the kernel it launches."""
    of_kernel = kernel_class(name)
    return None if of_kernel is WorkClass.OTHER else of_kernel


@functools.lru_cache(maxsize=65_536)
def kernel_class(name: str) -> WorkClass:
    """Return the class of a kernel, by its full name."""
    head = name[:MAX_NAME]
    for line in patterns("kernel_classes"):
        if line.pattern.search(head):
            return line.work_class
    return WorkClass.OTHER


def kernel_class_codes(names: Iterable[str]) -> Array:
    """Return the place in ``CLASSES`` of each kernel, by its full name."""
    return np.array([CODES[kernel_class(str(name))] for name in names], dtype=np.int8)


_KIND_OF_COLLECTIVE = re.compile(
    r"(?i)(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|send_?recv|broadcast|reduce|send|recv)"
)


def collective_kind(name: str) -> str:
    """Return which collective a kernel carries out, such as ``allreduce``; empty when unknown."""
    match = _KIND_OF_COLLECTIVE.search(name.partition("(")[0])
    return match[1].lower().replace("_", "") if match else ""


# --- what else a kernel's name tells ------------------------------------------------------------

# First match wins. cuBLAS and cuDNN: s is fp32, h fp16, d fp64, c complex; s1688 are TF32 units of
# tensor cores, s16816 16-bit ones (CUTLASS, ``arch/mma.h``). Tensile writes types behind the
# layout: S, H, B, F8 (ROCm/Tensile, ``DataType.py``).
_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("fp4", r"(?i)mxfp4|nvfp4|fp4|f4f4|e2m1"),
        ("fp8", r"(?i)e4m3|e5m2|fp8(?!KV)|float8|hfp8|_F8|f8f8"),
        ("int8", r"(?i)(?:^|_)i8|int8|imma|i16832|i8816|igemm_int8|s8_s8|_I8"),
        ("tf32", r"(?i)tf32|xf32|s1688|s884gemm_tf"),
        ("bf16", r"(?i)bf16|bfloat16|_BBS_|_BSS_|__nv_bfloat|s16816gemm_bf|_B_B_|DF16b"),
        (
            "fp16",
            r"(?i)fp16|f16|half|hgemm|h884|h1688|s161616gemm_f16|s16816(?!.*bf16)|_HHS_|hcudnn|hsh_",
        ),
        ("fp64", r"(?i:double|dgemm|d884|fp64|f64f64)|\bCijk_\w*_DB_"),
        ("complex64", r"(?i)cgemm|complex<float>"),
        ("fp32", r"(?i)float|sgemm|scudnn|fp32|f32f32|_S_B_|_SB_|simt_s"),
        ("int64", r"(?i)(?:<|, )(?:long|int64_t|long int)\b"),
        ("int32", r"(?i)(?:<|, )int\b"),
    )
)
_OPAQUE = re.compile(r"OpaqueType<(\d+)u?>")
_OPAQUE_TYPES = {1: "int8", 2: "bf16", 4: "fp32", 8: "int64", 16: "complex128"}

_TILES = tuple(
    re.compile(pattern)
    for pattern in (
        r"tilesize(\d+)x(\d+)x(\d+)",
        r"MT(\d+)x(\d+)x(\d+)",
        r"_bt(\d+)x(\d+)x(\d+)",
        r"gemm_\w*?(\d{2,3})x(\d{2,3})_(\d{2,3})x\d",
        r"fprop_\w*?(\d{2,3})x(\d{2,3})_(\d{2,3})x\d|dgrad_\w*?(\d{2,3})x(\d{2,3})_(\d{2,3})x\d",
        r"GemmShape<(\d+), ?(\d+), ?(\d+)>",
        r"(?:sgemm|hgemm|dgemm|gcgemm|scudnn|hcudnn)_(\d+)x(\d+)()",
        r"nvjet_\w+?_(\d+)x(\d+)_(\d+)x",
        r"_(\d{2,3})x(\d{2,3})x(\d{2,3})x\d",
    )
)


@functools.lru_cache(maxsize=65_536)
def kernel_type(name: str) -> str:
    """Return the type that a kernel computes in, as its name tells; empty when it does not."""
    head = name[:MAX_NAME]
    if opaque := _OPAQUE.search(head):
        return _OPAQUE_TYPES.get(int(opaque[1]), "")
    return next((kind for kind, pattern in _TYPES if pattern.search(head)), "")


def kernel_type_codes(names: Iterable[str]) -> Array:
    """Return the place in ``TYPES`` that each kernel's name tells, ``NO_TYPE`` none."""
    return np.array(
        [CODE_OF.get(kernel_type(str(name)), NO_TYPE) for name in names], dtype=np.int64
    )


# Data is converted on the way: a cast, or a softmax from 16 to 32 bits.
_CONVERTS = re.compile(
    r"WithCast|float\w*_copy_kernel"
    r"|[Ss]oft[Mm]ax\w*<(?:\d+, )?(?:c10::)?(?:Half|BFloat16), float, float"
)
MIXED = -2
"""Stands for the type of data where a kernel's name tells none, or several."""


def data_type_codes(names: Iterable[str]) -> Array:
    """Return the place in ``TYPES`` of the type that all of a kernel's data has, else ``MIXED``.

    A whole number in a name may be that of indices.
    """
    kinds = [
        "" if _CONVERTS.search(name[:MAX_NAME]) else kernel_type(name) for name in map(str, names)
    ]
    kinds = ["" if kind.startswith("int") and kind != "int8" else kind for kind in kinds]
    return np.array([CODE_OF.get(kind, MIXED) for kind in kinds], dtype=np.int64)


@functools.lru_cache(maxsize=65_536)
def kernel_tile(name: str) -> tuple[int, ...]:
    """Return the tile of a matrix kernel as M, N and, when known, K; empty when not told."""
    head = name[:MAX_NAME]
    for pattern in _TILES:
        if match := pattern.search(head):
            return tuple(int(part) for part in match.groups() if part)
    return ()
