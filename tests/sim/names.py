"""What /proc calls the forked processes of a machine: eight digits for the machine, and what the process is."""

from __future__ import annotations

import binascii
import os
import re

_LONGEST = 15


def machine_name(state: str) -> str:
    return f"{binascii.crc32(os.fsencode(state)):08x}-"


def is_of_a_machine(name: str) -> bool:
    return bool(re.match("[0-9a-f]{8}-", name))


def process_name(program: str) -> str:
    """Of a command STATE/bin/NAME; the end of its name says more than the beginning."""
    prefix = machine_name(os.path.dirname(os.path.dirname(program)))
    return prefix + os.path.basename(program)[len(prefix) - _LONGEST :]
