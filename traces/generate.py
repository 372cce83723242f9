"""Writes the synthetic samples: one recording for each cause, a healthy one, a pair, and counters.

Run ``python -m traces.generate [--out DIR]``. The same version gives the same tables every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from traces.counter_programs import COUNTED, write
from traces.programs import PAIR, PROGRAMS, record

FOLDER = Path(__file__).parent / "synthetic"


def generate(folder: Path) -> list[Path]:
    """Write ``synthetic_<cause>.sqlite`` for every program, the pair, and the counters."""
    folder.mkdir(parents=True, exist_ok=True)
    timelines = [
        record(name).write(folder / f"synthetic_{name}.sqlite") for name in PROGRAMS | PAIR
    ]
    return timelines + [write(name, folder) for name in COUNTED]


def main() -> None:
    """Write the samples and list them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where to write")
    for path in generate(parser.parse_args().out):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
