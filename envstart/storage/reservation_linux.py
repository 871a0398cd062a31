"""SCSI-3 persistent reservations by sg_persist(8) of sg3-utils: command lines and what they print. Pure."""

from __future__ import annotations

# The type is write exclusive; KEY is this host's, OTHER the one that it takes the reservation from.
_COMMANDS = {
    "read keys": "--in --read-keys",
    "read holder": "--in --read-reservation",
    "read all": "--in --read-full-status",
    "register": "--out --register-ignore --param-sark=KEY",
    "unregister": "--out --register --param-rk=KEY --param-sark=0",
    "reserve": "--out --reserve --param-rk=KEY --prout-type=1",
    "preempt": "--out --preempt --param-rk=KEY --param-sark=OTHER --prout-type=1",
    "release": "--out --release --param-rk=KEY --prout-type=1",
}


def argv(act: str, disk: str, key: int = 0, other: int = 0) -> tuple[str, ...]:
    """Return the command of an act, without the inquiry whose answer it would print first."""
    words = _COMMANDS[act].replace("KEY", f"{key:#x}").replace("OTHER", f"{other:#x}")
    return ("sg_persist", "--no-inquiry", *words.split(), f"/dev/{disk}")


def keys(text: str) -> list[int]:
    """Read the keys that are registered, of all hosts."""
    return [int(line, 16) for line in text.splitlines() if line.strip().startswith("0x")]


def holder(text: str) -> int | None:
    """Read the key of the host that holds the reservation; None if none does."""
    words = text.partition("Key=")[2].split()
    return int(words[0], 16) if words else None


def holding_initiator(text: str) -> str:
    """Read the name of the initiator that holds the reservation; "" if it is not told."""
    lines = text.partition("<< Reservation holder >>")[2].splitlines()
    # "iSCSI world wide unique port id: NAME,i,0xISID"; other versions call it "iSCSI name and session id".
    ports = [line.partition(": ")[2] for line in lines if line.strip().startswith("iSCSI ")]
    return ports[0].partition(",")[0].strip() if ports else ""
