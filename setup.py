"""Puts the launcher and its settings into the wheel, side by side, as they lie in a checkout.

Streamlit reads ``.streamlit/config.toml`` from the folder of the file that it runs, whatever folder
it was started from. Everything else about the build is in ``pyproject.toml``.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LAUNCHER = ("app.py", ".streamlit/config.toml")
PLACE = "views/launcher"  # where cli/app_path.py looks for it


class BuildWithLauncher(build_py):
    """Copies the launcher too, unless the checkout itself is what is installed."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        for name in LAUNCHER:
            target = Path(self.build_lib, PLACE, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(name, str(target))


setup(cmdclass={"build_py": BuildWithLauncher})
