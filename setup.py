"""Everything is in setup.cfg, but for the hooks: console scripts of pip's making take a third longer to start."""

from __future__ import annotations

import glob
import os

from setuptools import setup

# After setuptools, which brings it where Python has none.
from distutils.command.build_scripts import build_scripts  # isort: skip

_READS = '. "${hook%/*}/run-hook"\n'


class Hooks(build_scripts):
    """Each program of hooks/ with what it reads from there, so that it can lie among others."""

    def run(self) -> None:
        """Write each program."""
        os.makedirs(self.build_dir, exist_ok=True)
        with open("hooks/run-hook", encoding="utf-8") as file:
            read = file.read()
        for script in self.scripts:
            with open(script, encoding="utf-8") as file:
                text = file.read()
            path = f"{self.build_dir}/{os.path.basename(script)}"
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(_READS, read))
            os.chmod(path, 0o755)


setup(scripts=sorted(glob.glob("hooks/env_*")), cmdclass={"build_scripts": Hooks})
