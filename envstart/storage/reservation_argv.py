"""SCSI-3 persistent reservations as the commands of both systems have them: camcontrol(8) persist of FreeBSD,
sg_persist(8) of sg3-utils on Linux. Command lines and what they print; pure.
"""

from __future__ import annotations

READ_KEYS, READ_HOLDER, READ_ALL = "read keys", "read holder", "read all"
REGISTER, UNREGISTER, RESERVE, PREEMPT, RELEASE = "register", "unregister", "reserve", "preempt", "release"

# The type is write exclusive; KEY is this host's, OTHER the one that it takes the reservation from.
_CAMCONTROL = {
    READ_KEYS: "-i read_keys",
    READ_HOLDER: "-i read_reservation",
    READ_ALL: "-i read_full_status",
    REGISTER: "-o register_ignore -K KEY",
    UNREGISTER: "-o register -k KEY -K 0",
    RESERVE: "-o reserve -k KEY -T wr_ex",
    PREEMPT: "-o preempt -k KEY -K OTHER -T wr_ex",
    RELEASE: "-o release -k KEY -T wr_ex",
}
_SG_PERSIST = {
    READ_KEYS: "--in --read-keys",
    READ_HOLDER: "--in --read-reservation",
    READ_ALL: "--in --read-full-status",
    REGISTER: "--out --register-ignore --param-sark=KEY",
    UNREGISTER: "--out --register --param-rk=KEY --param-sark=0",
    RESERVE: "--out --reserve --param-rk=KEY --prout-type=1",
    PREEMPT: "--out --preempt --param-rk=KEY --param-sark=OTHER --prout-type=1",
    RELEASE: "--out --release --param-rk=KEY --prout-type=1",
}


def argv(platform: str, act: str, disk: str, key: int = 0, other: int = 0) -> tuple[str, ...]:
    """The command for one of the words above; ``disk`` without ``/dev/``."""
    table = _CAMCONTROL if platform == "freebsd" else _SG_PERSIST
    words = table[act].replace("KEY", f"{key:#x}").replace("OTHER", f"{other:#x}").split()
    if platform == "freebsd":
        return ("camcontrol", "persist", disk, *words)
    # Without the inquiry whose answer it else prints first.
    return ("sg_persist", "--no-inquiry", *words, f"/dev/{disk}")


def holder(platform: str, text: str) -> int | None:
    """The key of whoever holds the reservation, out of READ_HOLDER; None if nobody does."""
    keys = text.partition("Reservation Key:" if platform == "freebsd" else "Key=")[2].split()
    return int(keys[0], 16) if keys else None


def keys(platform: str, text: str) -> list[int]:
    """The keys that are registered, of all hosts, out of READ_KEYS."""
    if platform != "freebsd":
        return [int(line, 16) for line in text.splitlines() if line.strip().startswith("0x")]
    rows = [line.split(":") for line in text.splitlines() if ": 0x" in line]
    return [int(row[1], 16) for row in rows if row[0].strip().isdigit()]


def holding_initiator(platform: str, text: str) -> str:
    """The name of the initiator that holds the reservation, out of READ_ALL; "" if it is not told."""
    if platform == "freebsd":
        held = text.partition("Reservation Holder (R_HOLDER): 1")[2]
        return held.partition("iSCSI address: ")[2].partition(",")[0].strip()
    lines = text.partition("<< Reservation holder >>")[2].splitlines()
    # "iSCSI world wide unique port id: NAME,i,0xISID"; other versions call it "iSCSI name and session id".
    ports = [line.partition(": ")[2] for line in lines if line.strip().startswith("iSCSI ")]
    return ports[0].partition(",")[0].strip() if ports else ""
