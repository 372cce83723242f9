"""Writes the synthetic samples: one recording for each cause, and a healthy one.

Run ``python -m traces.generate [--out DIR]``. The same version gives the same tables every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from traces.programs import PROGRAMS, record

FOLDER = Path(__file__).parent / "synthetic"


def generate(folder: Path) -> list[Path]:
    """Write ``synthetic_<cause>.sqlite`` for every program into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    return [record(name).write(folder / f"synthetic_{name}.sqlite") for name in PROGRAMS]


def main() -> None:
    """Write the samples and list them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where to write")
    for path in generate(parser.parse_args().out):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
