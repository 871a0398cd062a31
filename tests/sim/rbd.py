"""rbd-ggate(8), and what rbd(8) tells of an image (docs/freebsd.md#rbd-ggate). The storage box has the cluster."""

from __future__ import annotations

import json
import os

from . import box, geom
from .machine import Machine, daemon, fail, say, tell
from .store import POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .shapes import Box, RbdImage, State


WITH_VALUE = ("--id", "-c", "-m", "--keyring", "--format", "--device")
FLAGS = ("--read-only", "--exclusive")


def parse(argv: list[str]) -> tuple[str, str, set[str]]:
    """Verb, operand and flags; ValueError with what is not known."""
    words, operands, flags = list(argv), [], set()
    while words:
        word = words.pop(0)
        if word in WITH_VALUE:
            words.pop(0)
        elif word in FLAGS:
            flags.add(word)
        elif word.partition("=")[0] in WITH_VALUE:
            continue
        elif word.startswith("-"):
            raise ValueError(word)
        else:
            operands.append(word)
    verb, operand = (*operands, "", "")[:2]
    return verb, operand, flags


def connect(machine: Machine) -> None:
    """Without a time limit: monitors that are silent are asked for ever."""
    while box.read(machine.state()["storage"])["cluster"] != "up":
        machine.store.sleep(POLL)


def rbd(machine: Machine, argv: list[str]) -> int:
    try:
        verb, spec, _ = parse(argv)
    except ValueError as problem:
        return fail(f"rbd: unrecognised option '{problem}'")
    if verb not in ("info", "status"):
        return fail(f"rbd: {verb}: only rbd-ggate maps on FreeBSD")
    connect(machine)
    image = box.read(machine.state()["storage"])["images"].get(spec)
    if image is None:
        return fail(f"rbd: error opening image {spec.rpartition('/')[2]}: (2) No such file or directory", 2)
    watchers = [{"address": f"{host}:0/1", "client": 4100, "cookie": 1} for host in image["watchers"]]
    answer = {"features": image["features"]} if verb == "info" else {"watchers": watchers}
    say(json.dumps({"name": spec.rpartition("/")[2], **answer} if verb == "info" else answer))
    return 0


def ggate(machine: Machine, argv: list[str]) -> int:
    try:
        verb, operand, flags = parse(argv)
    except ValueError as problem:
        return fail(f"rbd-ggate: unknown option {problem}")
    early = [word for word in argv if word == "-c" or word.startswith("--id")]
    if early:
        # What is known before the configuration is read, it takes from CEPH_ARGS alone.
        return fail(f"rbd-ggate: unknown args: {early[0]}")
    if verb == "list":
        return listing(machine)
    if verb == "map":
        return begin(machine, operand, flags)
    if verb == "unmap":
        return unmap(machine, operand)
    return fail(f"rbd-ggate: unknown command {verb}")


def listing(machine: Machine) -> int:
    rows = []
    for name, gate in machine.state()["gates"].items():
        if gate["spec"]:
            pool, *namespace, image = gate["spec"].split("/")
            known = {"pool": pool, "namespace": "".join(namespace), "image": image, "snap": ""}
            rows.append({"id": name[len("ggate") :], **known, "device": f"/dev/{name}"})
    say(json.dumps(rows))
    return 0


def begin(machine: Machine, spec: str, flags: set[str]) -> int:
    """Let a daemon connect and map; the process that has started it waits for its word."""
    text = daemon(lambda word: serve(machine, spec, flags, word))
    if text.startswith("/dev/"):
        say(text)
        return 0
    return fail(f"rbd-ggate: {text}\nrbd-ggate: failed to map: {text.rpartition(': ')[2]}")


def serve(machine: Machine, spec: str, flags: set[str], word: int) -> None:
    connect(machine)
    try:
        name = machine.store.change(lambda state: attach(state, machine, spec, flags))
    except OSError as problem:
        os.write(word, str(problem.strerror).encode())
        return
    tell(word, f"/dev/{name}")
    # Another one can have the name by then.
    while (gate := machine.state()["gates"].get(name)) and gate["pid"] == os.getpid():
        machine.store.wait_for_change()


def attach(state: State, machine: Machine, spec: str, flags: set[str]) -> str:
    host = state["settings"]["hostname"]
    image = changed(state, spec, lambda known: take(known, host, flags))
    number = next(number for number in range(99) if f"ggate{number}" not in state["gates"])
    geom.add_gate(state, machine, f"ggate{number}", image, spec, os.getpid())
    return f"ggate{number}"


def take(image: RbdImage, host: str, flags: set[str]) -> str:
    if "--exclusive" in flags:
        if image["owner"]:
            raise OSError(30, "failed to acquire exclusive lock: (30) Read-only file system")
        image["owner"] = host
    image["watchers"].append(host)
    return image["image"]


def unmap(machine: Machine, device: str) -> int:
    name = device[len("/dev/") :]

    def act(state: State) -> None:
        spec = state["gates"][name]["spec"]
        # By force, whoever uses it.
        geom.remove(state, machine, name)
        changed(state, spec, lambda known: let_go(known, state["settings"]["hostname"]))

    if name not in machine.state()["gates"]:
        return fail(f"rbd-ggate: failed to destroy {device}: (6) Device not configured")
    machine.call(act)
    return 0


def let_go(image: RbdImage, host: str) -> str:
    image["watchers"].remove(host)
    if image["owner"] == host:
        image["owner"] = ""
    return ""


def changed(state: State, spec: str, act: Callable[[RbdImage], str]) -> str:
    def change(known: Box) -> str:
        if spec not in known["images"]:
            text = f"failed to open image {spec.rpartition('/')[2]}: (2) No such file or directory"
            raise OSError(2, text)
        return act(known["images"][spec])

    return box.change(state["storage"], change)
