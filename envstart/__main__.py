"""``python -m envstart``."""

from .cli import run

run()
