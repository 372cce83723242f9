"""Writes the manifest anew: ``python -m tests.hostile.manifest``. Read each line that changes."""

import pytest

from tests.hostile.outcomes import MANIFEST, hostile_files, outcome_of

_HEAD = "# What each hostile file must get. Written by python -m tests.hostile.manifest; read it.\n"


def main() -> None:
    """Write what each file gets now."""
    lines = []
    for file in hostile_files():
        with pytest.MonkeyPatch.context() as patch:
            try:
                outcome = outcome_of(file, patch)
            except AssertionError as broken:
                outcome = f"BROKEN: {broken}".splitlines()[0]
        lines.append(f"{file.name}\t{outcome}\n")
    MANIFEST.write_text(_HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
