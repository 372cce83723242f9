"""Calls of operators with their arguments in the order of a signature, for tests of work models."""

import json

import numpy as np

from analyzers.work.element_types import NO_TYPE, TYPES
from analyzers.work.inputs import read_inputs
from analyzers.work.models.registry import model_of

HALF, FULL, INT, BYTE = "c10::Half", "float", "int", "c10::Float8_e4m3fn"
SIZES = {HALF: 2, FULL: 4, INT: 4, "long int": 8, BYTE: 1, "signed char": 1, "unsigned char": 1}


def work(operator, arguments):
    """Return operations, those needed, bytes and the type of a call.

    ``arguments`` are pairs of shape and type for tensors, texts for what is passed by value.
    """
    tensors = [a if isinstance(a, tuple) else ([], "Scalar") for a in arguments]
    values = [a if isinstance(a, str) else "" for a in arguments]
    shapes, types = [list(s) for s, _ in tensors], [t for _, t in tensors]
    texts = [[json.dumps(part)] for part in (shapes, types, [], values)]
    answer = model_of(operator)(read_inputs(*texts, np.array([NO_TYPE])))
    numbers = (float(part[0]) for part in (answer.flop, answer.least_flop, answer.bytes))
    return (*numbers, TYPES[int(answer.type[0])].name)


def called(signature, roles):
    """Return the arguments of a call; what has no role is a number that means nothing."""
    return [roles.get(name, "0.25") for name in signature.split()]


def size(*tensors):
    return sum(int(np.prod(shape)) * SIZES[kind] for shape, kind in tensors)


def signatures(text):
    lines = [line.split(maxsplit=1) for line in text.strip().splitlines()]
    return {name: arguments.strip() for name, arguments in lines}
