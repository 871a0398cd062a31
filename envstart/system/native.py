"""The parts of this machine that its system has in a way of its own."""

import sys

if sys.platform.startswith("linux"):
    from envstart.system.os_linux import anonymous_file, log
else:
    from envstart.system.os_freebsd import anonymous_file, log

__all__ = ["anonymous_file", "log"]
