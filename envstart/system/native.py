"""What this machine does in the way of its own system: os_linux.py or os_freebsd.py."""

import sys

if sys.platform.startswith("linux"):
    from envstart.system.os_linux import anonymous_file, log
else:
    from envstart.system.os_freebsd import anonymous_file, log

__all__ = ["anonymous_file", "log"]
