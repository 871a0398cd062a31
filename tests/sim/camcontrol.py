"""camcontrol(8): devlist, inquiry, and persist, which talks with the LUN about its reservations."""

from __future__ import annotations

from . import box, mounted, reservations, sessions
from .machine import Machine, fail, say, warn
from .options import UsageError, getopt, letters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Box, Lun, Session, State

USAGE = "usage:  camcontrol <command>  [device id][generic args][command args]"
# Names of a type of reservation, the first of which is shown.
TYPES = {
    0: ("read_shared",),
    1: ("write_exclusive", "wr_ex"),
    2: ("read_exclusive", "rd_ex"),
    3: ("exclusive_access", "ex_ac"),
    5: ("write_exclusive_reg_only", "wr_ex_ro"),
    6: ("exclusive_access_reg_only", "ex_ac_ro"),
    7: ("write_exclusive_all_regs", "wr_ex_ar"),
    8: ("exclusive_access_all_regs", "ex_ac_ar"),
}
IN_ACTIONS = {"read_keys": 0, "read_reservation": 1, "report_capabilities": 2, "read_full_status": 3}
OUT_ACTIONS = {
    "register": 0, "reserve": 1, "release": 2, "clear": 3, "preempt": 4, "preempt_abort": 5, "register_ignore": 6,
    "register_move": 7, "replace_lost": 8,
}  # fmt: skip
DVD = "<QEMU QEMU DVD-ROM 2.5+>"
DISK = "<LAB CTLDISK 0001>"
NOBODY = "<>"


class RefusedError(Exception):
    """`camcontrol: TEXT`, exit 1."""


class Unit:
    """A LUN as one session sees it."""

    def __init__(self, session: Session, number: str) -> None:
        self.session = session
        self.number = number
        self.disk = session["luns"][number]
        self.nexus = sessions.nexus(session)

    @property
    def address(self) -> str:
        return f"(pass{self.session['passes'][self.number]}:iscsi{self.session['id']}:0:0:{self.number})"

    def of(self, known: Box) -> Lun:
        return known["targets"][self.session["target"]]["luns"][self.number]


def main(machine: Machine, argv: list[str]) -> int:
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    if machine.uid(machine.state()) != 0:
        warn("camcontrol: cam_lookup_pass: couldn't open /dev/xpt0")
        return fail("cam_lookup_pass: Permission denied")
    try:
        if verb == "devlist":
            return devlist(machine, rest)
        if verb == "rescan":
            return rescan(machine, rest)
        if verb in ("inquiry", "persist"):
            if not rest or rest[0].startswith("-") or not rest[0][-1].isdigit():
                raise RefusedError(f'subcommand "{verb}" requires a valid device identifier')
            return {"inquiry": inquiry, "persist": persist}[verb](machine, rest[0], rest[1:])
    except (RefusedError, UsageError) as problem:
        return fail(f"camcontrol: {problem}" if str(problem) else USAGE)
    except LookupError:
        name = rest[0].rpartition("/")[2]
        warn("camcontrol: cam_lookup_pass: CAMGETPASSTHRU ioctl failed\ncam_lookup_pass: No such file or directory")
        warn("cam_lookup_pass: either the pass driver isn't in your kernel")
        return fail(f"cam_lookup_pass: or {name} doesn't exist")
    return fail(USAGE)


def devlist(machine: Machine, argv: list[str]) -> int:
    found, _ = getopt(argv, "vb")
    verbose, only_buses = "v" in letters(found), "b" in letters(found)
    buses = [("scbus2 on ahcich2 bus 0:", "scbus2", [(DVD, "0", "pass0,cd0")])]
    for session in machine.state()["sessions"]:
        units = [(DISK, lun, f"{disk},pass{session['passes'][lun]}") for lun, disk in session["luns"].items()]
        if units:
            bus = f"scbus{session['scbus']}"
            buses.append((f"{bus} on iscsi{session['id']} bus 0:", bus, units))
    for title, bus, units in buses:
        if verbose or only_buses:
            say(title)
        for what, lun, names in [] if only_buses else units:
            say(f"{what:<33}  at {bus} target 0 lun {int(lun):x} ({names})")
        if verbose:
            say(f"{NOBODY:<33}  at {bus} target -1 lun ffffffff ()")
    if verbose or only_buses:
        say("scbus-1 on xpt0 bus 0:")
    if verbose:
        say(f"{NOBODY:<33}  at scbus-1 target -1 lun ffffffff (xpt0)")
    return 0


def rescan(machine: Machine, argv: list[str]) -> int:
    if len(argv) != 1:
        raise RefusedError('must specify "all", a bus, a peripheral name or a bus:target:lun to rescan')

    def scan(state: State) -> list[int]:
        found = []
        for session in state["sessions"]:
            names = {"all", str(session["scbus"]), *session["luns"].values()}
            if session["luns"] and argv[0].partition(":")[0] in names:
                mounted.check_answers(session)
                sessions.rescan(state, machine, box.read(state["storage"]), session)
                found.append(session["scbus"])
        return found

    buses = machine.call(scan)
    for bus in buses:
        say(f"Re-scan of bus {bus} was successful")
    return 0 if buses or argv[0] == "all" else fail(f"Re-scan of bus {argv[0]} returned error 0x6")


def unit_of(state: State, device: str) -> Unit:
    name = device.rpartition("/")[2]
    for session in state["sessions"]:
        for number, disk in session["luns"].items():
            if name in (disk, f"pass{session['passes'][number]}"):
                return Unit(session, number)
    raise LookupError(name)


def reached(machine: Machine, device: str) -> Unit:
    """Return the LUN, when it answers. A command to one that does not waits in the kernel."""

    def reach(state: State) -> Unit:
        unit = unit_of(state, device)
        mounted.check_answers(unit.session)
        return unit

    return machine.look(reach)


def inquiry(machine: Machine, device: str, argv: list[str]) -> int:
    found, _ = getopt(argv, "DSRv")
    unit = reached(machine, device)
    serial = unit.of(box.read(machine.state()["storage"]))["serial"]
    if "S" in letters(found):
        say(serial)
        return 0
    name = f"pass{unit.session['passes'][unit.number]}"
    say(f"{name}: {DISK} Fixed Direct Access SPC-5 SCSI device\n{name}: Serial Number {serial}")
    return 0


def persist(machine: Machine, device: str, argv: list[str]) -> int:
    found, operands = getopt(argv, "aC:E:i:I:k:K:n:o:pQ:R:s:St:T:uUv")
    given, switches = dict(found), letters(found)
    if operands or ("i" in given) == ("o" in given):
        raise RefusedError("scsipersist: you must specify one of -i or -o")
    kind = type_of(given["T"]) if "T" in given else 0
    key, new_key = key_of(given.get("k", "0"), "key"), key_of(given.get("K", "0"), "service action key")
    table, word = (IN_ACTIONS, "in") if "i" in given else (OUT_ACTIONS, "out")
    action = chosen(given.get("i", given.get("o", "")), table, f"{word} option")
    if action in ("register", "register_ignore", "preempt", "preempt_abort") and "K" not in given:
        raise RefusedError(f"scsipersist: you must specify a service action key with -K for {action}")
    unit = reached(machine, device)
    storage = machine.state()["storage"]

    def ask(known: Box) -> str:
        """Return what the command prints. A refusal changes the LUN as well: an attention is told but once."""
        lun = unit.of(known)
        try:
            reservations.take_attention(lun, unit.nexus)
            if "o" in given:
                reservations.act(lun, unit.nexus, action, key, new_key, kind)
        except reservations.RefusedError as problem:
            refusal.append(str(problem))
            return ""
        return "" if "o" in given else shown(lun, action)

    refusal: list[str] = []
    output = box.change(storage, ask)
    box.publish(storage)
    if refusal:
        if "v" in switches:
            complain(unit, out="o" in given, action=table[action], kind=kind, refusal=refusal[0])
        return 1
    for line in output.splitlines():
        say(line)
    return 0


def chosen(word: str, table: dict[str, int], what: str) -> str:
    """Return the action of that name, or the only one that begins so."""
    if word.lower() in table:
        return word.lower()
    fitting = [name for name in table if name.startswith(word.lower())]
    if len(fitting) != 1:
        raise RefusedError(f"scsipersist: {'ambiguous' if fitting else 'invalid'} {what} {word}")
    return fitting[0]


def type_of(word: str) -> int:
    if word.isdigit():
        return int(word)
    names = {name: number for number, known in TYPES.items() for name in known}
    return names[chosen(word, names, "reservation type")]


def key_of(word: str, what: str) -> int:
    try:
        return int(word, 0)
    except ValueError:
        raise RefusedError(f"scsipersist: invalid {what} argument {word}") from None


def hexadecimal(number: int) -> str:
    """Write a number as %#x of printf(3) does."""
    return f"{number:#x}" if number else "0"


def shown(lun: Lun, action: str) -> str:
    lines = [f"PRgeneration: {hexadecimal(lun['generation'])}"]
    holder = reservations.holder_key(lun)
    if action == "read_keys":
        number = len(lun["keys"])
        lines.append("0 keys." if not number else f"{number} key{'s' if number > 1 else ''}:")
        lines += [f"{index}: {hexadecimal(key)}" for index, key in enumerate(lun["keys"].values())]
    elif action == "read_reservation":
        if holder is None:
            return "No reservations."
        lines += [f"Reservation Key: {hexadecimal(holder)}", "Scope address: 0", *scope(lun), "Extent length: 0"]
    elif action == "read_full_status":
        for nexus, key in lun["keys"].items():
            holds = reservations.holds(lun, nexus)
            lines += [f"Reservation Key: {hexadecimal(key)}", "All Target Ports (ALL_TG_PT): 0"]
            lines += [f"Reservation Holder (R_HOLDER): {int(holds)}", *(scope(lun) if holds else [])]
            lines += ["Relative Target Port ID: 0x3", f"iSCSI address: {nexus}"]
    else:
        lines = ["Allocation Length: 0x8", "Reservation types supported: WR_EX EX_AC WR_EX_RO EX_AC_RO"]
    return "\n".join(lines)


def scope(lun: Lun) -> list[str]:
    return ["Scope: lun (0)", f"Type: {TYPES[lun['kind']][0]} ({hexadecimal(lun['kind'])})"]


def complain(unit: Unit, *, out: bool, action: int, kind: int, refusal: str) -> None:
    name, code, length = ("OUT", "5f", "18 00") if out else ("IN", "5e", "10 00")
    warn(f"{unit.address}: PERSISTENT RESERVE {name}. CDB: {code} {action:02x} {kind:02x} 00 00 00 00 00 {length} ")
    warn(f"{unit.address}: CAM status: SCSI Status Error")
    if refusal == reservations.CONFLICT:
        warn(f"{unit.address}: SCSI status: {refusal}")
        return
    warn(f"{unit.address}: SCSI status: Check Condition")
    warn(f"{unit.address}: SCSI sense: {refusal}")
