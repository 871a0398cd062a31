"""SCSI-3 persistent reservations by camcontrol(8) persist: command lines and what they print. Pure."""

from __future__ import annotations

# The type is write exclusive; KEY is this host's, OTHER the one that it takes the reservation from.
_COMMANDS = {
    "read keys": "-i read_keys",
    "read holder": "-i read_reservation",
    "read all": "-i read_full_status",
    "register": "-o register_ignore -K KEY",
    "unregister": "-o register -k KEY -K 0",
    "reserve": "-o reserve -k KEY -T wr_ex",
    "preempt": "-o preempt -k KEY -K OTHER -T wr_ex",
    "release": "-o release -k KEY -T wr_ex",
}


def argv(act: str, disk: str, key: int = 0, other: int = 0) -> tuple[str, ...]:
    """Return the command of an act; ``disk`` without ``/dev/``."""
    words = _COMMANDS[act].replace("KEY", f"{key:#x}").replace("OTHER", f"{other:#x}")
    return ("camcontrol", "persist", disk, *words.split())


def keys(text: str) -> list[int]:
    """Read the keys that are registered, of all hosts."""
    rows = [line.split(":") for line in text.splitlines() if ": 0x" in line]
    return [int(row[1], 16) for row in rows if row[0].strip().isdigit()]


def holder(text: str) -> int | None:
    """Read the key of the host that holds the reservation; None if none does."""
    words = text.partition("Reservation Key:")[2].split()
    return int(words[0], 16) if words else None


def holding_initiator(text: str) -> str:
    """Read the name of the initiator that holds the reservation; "" if it is not told."""
    held = text.partition("Reservation Holder (R_HOLDER): 1")[2]
    return held.partition("iSCSI address: ")[2].partition(",")[0].strip()
