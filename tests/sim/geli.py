"""geli(8). The decrypted view of a device is a file of its own beside the image, and whoever has the key gets it."""

from __future__ import annotations

import errno
import hashlib

from . import geom, geomlist, mesh, metadata
from .elikeys import NO_PASSPHRASE, RefusedError, key_hash, new_metadata, read_keys, read_passphrase, write_metadata
from .errors import error
from .machine import Machine, fail, say, warn, words_of
from .options import getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, State

USAGE = """\
usage: geli init [-bdgPRTv] [-a aalgo] [-B backupfile] [-e ealgo] [-i iterations] [-l keylen] [-J newpassfile] \
[-K newkeyfile] [-s sectorsize] [-V version] prov ...
       geli label - an alias for 'init'
       geli attach [-Cdprv] [-n keyno] [-j passfile] [-k keyfile] prov ...
       geli detach [-fl] prov ...
       geli stop - an alias for 'detach'
       geli onetime [-dRT] [-a aalgo] [-e ealgo] [-l keylen] [-s sectorsize] prov
       geli configure [-bBdDgGrRtT] prov ...
       geli setkey [-pPv] [-n keyno] [-i iterations] [-j passfile] [-J newpassfile] [-k keyfile] [-K newkeyfile] prov
       geli delkey [-afv] [-n keyno] prov
       geli suspend [-v] -a | prov ...
       geli resume [-pv] [-j passfile] [-k keyfile] prov
       geli kill [-av] [prov ...]
       geli backup [-v] prov file
       geli restore [-fv] file prov
       geli resize [-v] -s oldsize prov
       geli version [prov ...]
       geli clear [-v] prov ...
       geli dump [-v] prov ...
       geli help
       geli list [-a] [name ...]
       geli status [-ags] [name ...]
       geli load [-v]
       geli unload [-v]"""
ANY = "There was an error with at least one provider."
BACKUP = """
Metadata backup for provider {name} can be found in /var/backups/{file}.eli
and can be restored with the following command:

\t# geli restore /var/backups/{file}.eli {name}
"""


def main(machine: Machine, argv: list[str]) -> int:
    verbs = {"init": init, "label": init, "attach": attach, "detach": detach, "stop": detach, "dump": dump}
    try:
        return geomlist.class_command(machine, argv, "geli", "ELI", verbs, USAGE)
    except RefusedError as problem:
        warn(f"geli: {problem}")
        return 1 if problem.early else fail(f"geli: {ANY}")


def load_module(machine: Machine) -> None:
    if "geom_eli" in machine.state()["modules"]:
        return
    if machine.uid(machine.state()) != 0:
        raise RefusedError("cannot load geom_eli: Operation not permitted", early=True)
    machine.call(lambda state: state["modules"].append("geom_eli"))


def init(machine: Machine, argv: list[str]) -> int:
    found, names = getopt(argv, "bdgPRTva:B:e:i:l:J:K:s:V:")
    switches, given = letters(found), dict(found)
    if not names:
        raise RefusedError("Too few arguments.", early=True)
    if {"J", "P"} <= switches:
        raise RefusedError("Options -J and -P are mutually exclusive.", early=True)
    if "P" in switches and "K" not in switches:
        raise RefusedError("No key components given.", early=True)
    load_module(machine)
    keys = read_keys(machine, values(found, "K"))
    for given_name in names:
        name = geom.name_of(given_name)

        def make(state: State) -> None:
            provider = open_provider(machine, state, given_name)  # noqa: B023
            passphrase = None if "P" in switches else read_passphrase(machine, values(found, "J"))
            try:
                geom.check_access(state, provider.name, (1, 1, 0))
            except OSError as problem:
                raise RefusedError(f"Cannot store metadata on {given_name}: {words_of(problem)}.") from None  # noqa: B023
            sectorsize = int(given.get("s", geom.sectorsize(state, provider.name)))
            size = geom.mediasize(state, provider.name)
            content = new_metadata(size, keys, passphrase, sectorsize)
            write_metadata(provider.image, content, geom.depth(state, provider.name))
            geom.closed(state, machine, provider.name)

        machine.call(make)
        if given.get("B") != "none":
            say(BACKUP.format(name=given_name, file=name.replace("/", "_")))
    return 0


def open_provider(machine: Machine, state: State, given: str) -> geom.Provider:
    try:
        provider = geom.find(state, f"/dev/{geom.name_of(given)}")
        if machine.uid(state) != 0:
            raise error(errno.EACCES)
    except OSError as problem:
        raise RefusedError(f"Cannot open {given}: {words_of(problem)}.") from None
    return provider


def attach(machine: Machine, argv: list[str]) -> int:
    found, names = getopt(argv, "Cdprvn:j:k:")
    switches = letters(found)
    if not names:
        raise RefusedError("Too few arguments.", early=True)
    load_module(machine)
    if {"j", "p"} <= switches:
        raise RefusedError("Options -j and -p are mutually exclusive.", early=True)
    if "p" in switches and "k" not in switches:
        raise RefusedError("No key components given.", early=True)
    keys = read_keys(machine, values(found, "k"))
    status = 0
    for given in names:
        try:
            without = "p" in switches
            wanted = dict(found).get("n")
            keyno = find_key(machine, given, keys, wanted, without_passphrase=without, passfiles=values(found, "j"))
            if "C" not in switches:
                attach_one(machine, given, keyno, switches)
        except RefusedError as problem:
            status = fail(f"geli: {problem}")
            continue
        if "v" in switches:
            say(f"Attached to {given}.")
    if status:
        return fail(f"geli: {ANY}")
    if "v" in switches:
        say("Done.")
    return 0


def attach_one(machine: Machine, given: str, keyno: int, switches: set[str]) -> None:
    refusal = machine.call(lambda state: create(state, machine, given, keyno, switches))
    if refusal:
        raise RefusedError(refusal)


def find_key(
    machine: Machine,
    given: str,
    keys: list[bytes],
    keyno: str | None,
    *,
    without_passphrase: bool,
    passfiles: list[str],
) -> int:
    """Return the number of the key that fits, found without touching the device."""
    state = machine.state()
    provider = open_provider(machine, state, given)
    content = metadata.tail(provider.image, metadata.ELI, geom.depth(state, provider.name))
    if content is None:
        raise RefusedError(f"Cannot read metadata from {given}: Invalid argument.")
    if content["provsize"] != geom.mediasize(state, provider.name):
        raise RefusedError("Provider size mismatch.")
    if not content["keys"]:
        raise RefusedError(f"No valid keys on {provider.name}.")
    passphrase = None
    if not without_passphrase:
        if content["iterations"] == NO_PASSPHRASE:
            raise RefusedError("Missing -p flag.")
        passphrase = read_passphrase(machine, passfiles)
    wanted = key_hash(keys, passphrase)
    for number, known in content["keys"].items():
        if known == wanted and keyno in (None, number):
            return int(number)
    raise RefusedError(f"Wrong key for {provider.name}.")


def create(state: State, machine: Machine, given: str, keyno: int, switches: set[str]) -> str:
    """Create the device as the kernel does, and return "" or the error; a second attach panics the kernel."""
    if {"d", "r"} <= switches:
        return "Options -d and -r are mutually exclusive."
    provider = open_provider(machine, state, given)
    readonly = "r" in switches
    try:
        geom.check_access(state, provider.name, (1, 0, 1) if readonly else (1, 1, 1))
    except OSError as problem:
        if state["elis"]:
            state["panic"] = "page fault: the ELI devices lost the memory zone that a failed attach destroyed"
        return f"Cannot access {provider.name} (error={problem.errno})."
    content = metadata.tail(provider.image, metadata.ELI, geom.depth(state, provider.name)) or {}
    state["elis"][f"{provider.name}.eli"] = {
        "provider": provider.name, "image": f"{provider.image}.eli", "readonly": readonly,
        "on_last_close": "d" in switches, "written": False, "sectorsize": content["sectorsize"], "keyno": keyno,
    }  # fmt: skip
    if not readonly:
        geom.wrote(state, provider.name)
    geom.taste(state, machine)
    return ""


def detach(machine: Machine, argv: list[str]) -> int:
    found, names = getopt(argv, "fl")
    switches = letters(found)
    if not names:
        raise RefusedError("Too few arguments.", early=True)
    if not mesh.has_class(machine.state(), "ELI"):
        return fail('geli: Class not found: "ELI"')
    if machine.uid(machine.state()) != 0:
        return fail("geli: Cannot open /dev/geom.ctl: Permission denied.")
    for given in names:
        refusal = machine.call(lambda state: destroy(state, machine, given, switches))  # noqa: B023
        if refusal:
            return fail(f"geli: {refusal}")
    return 0


def destroy(state: State, machine: Machine, given: str, switches: set[str]) -> str:
    name = geom.name_of(given)
    found = [device for device, eli in state["elis"].items() if name in (device, eli["provider"])]
    if not found:
        return f"No such device: {given}."
    device = found[0]
    if "l" in switches:
        state["elis"][device]["on_last_close"] = state["elis"][device]["written"] = True
        return ""
    is_open = geom.mode(state, device) != geom.CLOSED
    if is_open and "f" not in switches:
        return f"Cannot destroy device {device} (error={errno.EBUSY})."
    lower = state["elis"][device]["provider"]
    geom.remove(state, machine, device)
    geom.closed(state, machine, lower)
    return f"Cannot destroy device {device} (error={errno.EBUSY})." if is_open else ""


def dump(machine: Machine, argv: list[str]) -> int:
    _, names = getopt(argv, "v")
    if not names:
        raise RefusedError("Too few arguments.", early=True)
    status = 0
    for given in names:
        state = machine.state()
        try:
            provider = geom.find(state, f"/dev/{geom.name_of(given)}")
            content = metadata.tail(provider.image, metadata.ELI, geom.depth(state, provider.name))
            if content is None:
                raise error(errno.EINVAL)
        except OSError as problem:
            warn(f"Cannot read metadata from {given}: {words_of(problem)}.")
            status = 1
            continue
        show_metadata(given, content)
    return fail("geli: Not fully done.") if status else 0


def show_metadata(given: str, content: Json) -> None:
    valid = sum(1 << int(number) for number in content["keys"])
    digest = hashlib.md5(repr(content).encode()).hexdigest()
    rows = {
        "magic": "GEOM::ELI", "version": "7", "flags": "0x200", "ealgo": "AES-XTS", "keylen": "128",
        "provsize": content["provsize"], "sectorsize": content["sectorsize"], "keys": f"0x{valid:02x}",
        "iterations": content["iterations"], "Salt": digest * 4, "Master Key": digest * 8, "MD5 hash": digest,
    }  # fmt: skip
    say(f"Metadata on {given}:")
    for key, value in rows.items():
        say(f"{key:>10}: {value}")
    say("")
