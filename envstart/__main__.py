"""``python -m envstart``."""

from envstart.cli.main import run

run()
