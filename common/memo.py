"""Results that several rules ask for: made once, even when two of them ask at the same time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar, cast

RECORDINGS = 2  # of which results are kept: two sides of a comparison

_P = ParamSpec("_P")
_R = TypeVar("_R")


def memo(size: int = RECORDINGS) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Keep the last results of a function, as ``functools.lru_cache`` does.

    Rules run side by side. Where ``lru_cache`` lets each of two that ask at once make the result,
    here the second waits for the first: what millions of rows cost, they cost once. Functions
    that ask each other must not do so in a circle.

    Args:
        size: How many results are kept.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        stored = functools.lru_cache(size)(function)
        lock = threading.RLock()

        @functools.wraps(function)
        def ask(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with lock:
                return stored(
                    *cast(tuple[Hashable, ...], args), **cast(dict[str, Hashable], kwargs)
                )

        return ask

    return decorate
