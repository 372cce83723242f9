"""How unsure a prediction is for what no recording tells."""

VARIES = 0.25  # launch latency, device gap and wake-up differ so much from run to run
MIN_UNCERTAINTY = 0.015  # of the time; two runs of one program differ by as much


def bounds(best: float, worst: float, error: float, gain: float) -> tuple[float, float]:
    """Widen a range by what the replay leaves open, as parts of the measured time.

    What the replay sees no gain in has none to be unsure of: the margin at most doubles a gain,
    and no change is predicted to make a program slower, since nobody has to make it.

    Args:
        best: Time in the best case.
        worst: Time in the worst one.
        error: Of the unchanged replay.
        gain: What the change itself wins in the best case.
    """
    unsure = max(MIN_UNCERTAINTY, abs(error))
    low = max(min(best, 1.0) * (1 - unsure), 1 - 2 * max(gain, 0.0))
    return low, min(max(worst * (1 + unsure), low), 1.0)
