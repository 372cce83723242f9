"""Work models: what an operator computes and what it must move at least, from its inputs.

Each is a small function over many sets of inputs at once, with its formula and where that comes
from. Floating-point operations are counted as TraceLens counts them (AMD-AGI/TraceLens,
``TraceLens/PerfModel/perf_model.py``, MIT; its rules were read, none of its code is here), so that
figures can be compared: 2 MNK for a matrix product, one operation for an element that is written
by an element-wise kernel. Bytes are the least that must move: each input read once, each output
written once, what is broadcast at its own size.
"""
