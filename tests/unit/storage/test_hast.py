"""HAST without a machine: keys, the plan, what hastctl says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_text import Geom, Makes, Uses, text
from stubs import Stub, answer, done, outputs, planned

from envstart.backends import hast
from envstart.engine import plan as plans
from envstart.engine.plan import Plan, stages
from envstart.errors import ConfigError, NoResponseError, TemporaryError, UnavailableError
from envstart.mounts.table import Entry
from envstart.storage import hast_resource
from envstart.storage.hast import Role
from envstart.storage.hast_resource import Resource

LIST = "hastctl list env1"


def plan(tmp_path: Path, name: str = "env1", **keys: str) -> Plan:
    return planned(tmp_path, "hast", name, **{"HAST_RESOURCE": "{name}", **keys})


def role(tmp_path: Path, **keys: str) -> Role:
    found = plan(tmp_path, **keys).steps[0]
    assert isinstance(found, Role)
    return found


def lists() -> dict[str, str]:
    """Return what a live hastctl listed, by role."""
    found = {}
    for output in outputs("hast", "hastctl list env1"):
        rows = output[output.index("env1:\n") :] if "env1:\n" in output else ""
        if rows:
            found[rows.partition("role: ")[2].split()[0]] = rows
    return found


# Keys and the plan.


@pytest.mark.parametrize("value", ["env1", "vm-env1", "a.b_c"])
def test_resources(value: str) -> None:
    assert hast.resource(value) == value


@pytest.mark.parametrize("value", ["all", "-f", "a b", "all/x", "../x", "{jname}", "{name", "ü", "a\n"])
def test_what_is_no_resource(value: str) -> None:
    with pytest.raises(ValueError):
        hast.resource(value)


@pytest.mark.parametrize(
    ("keys", "source"),
    [({}, "hast resource env1"), ({"HAST_RESOURCE": "vm-{name}"}, "hast resource vm-env1")],
)
def test_the_name_of_the_environment_is_filled_in(tmp_path: Path, keys: dict[str, str], source: str) -> None:
    found = plan(tmp_path, **keys)
    assert found.steps[0].source == source
    assert found.steps[0].resource == source.replace("resource ", "")
    assert len(found.locks) == 2


@pytest.mark.parametrize("name", ["all", "a@b", "a:b", "a%b"])
def test_a_name_that_no_resource_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"name it in a section \[NAME\]"):
        plan(tmp_path, name)


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ({}, [["role"], ["fsck"], ["data"]]),
        ({"GELI_KEYFILE": "/k"}, [["role"], ["geli"], ["fsck"], ["data"]]),
        ({"VOLUME_LAYOUT": "tree"}, [["role"], ["fsck"], ["volume"], ["system", "fstab", "data"]]),
        (
            {"VOLUME_LAYOUT": "tree", "GELI_PASSFILE": "/p"},
            [["role"], ["geli"], ["fsck"], ["volume"], ["system", "fstab", "data"]],
        ),
    ],
)
def test_the_order_of_the_steps(tmp_path: Path, keys: dict[str, str], order: list[list[str]]) -> None:
    assert [[step.name for step in group] for group in stages(plan(tmp_path, **keys).steps)] == order


def test_doubts(tmp_path: Path) -> None:
    assert plan(tmp_path).warnings == ()
    (warning,) = plan(tmp_path, HAST_TAKEOVER="1").warnings
    assert warning.startswith("HAST_TAKEOVER is set")


@pytest.mark.parametrize("key", ["HAST_WAIT", "HAST_STOP_ROLE", "HAST_TAKEOVER"])
def test_fault_103_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        plan(tmp_path, **{key: "primary"})


# What hastctl says.


def resource(output: str, err: str = "", status: int = 0) -> Resource:
    return done(hast_resource.read(Stub({LIST: answer(output, err, status)}).host, "env1"))


def test_a_live_primary_alone() -> None:
    found = resource(lists()["primary"])
    assert (found.role, found.status, found.remote) == ("primary", "degraded", "172.16.0.101")
    assert found.dirty == "0 (0B)"
    assert str(found) == "primary, degraded, 0 (0B) dirty"


def test_a_live_secondary_without_a_primary() -> None:
    """It has no worker, and hence no line of status: that is how it shows that nobody is primary."""
    found = resource(lists()["secondary"])
    assert (found.role, found.status, found.remote) == ("secondary", "", "172.16.0.100")
    assert str(found) == "secondary"


@pytest.mark.parametrize(
    ("rows", "status", "dirty"),
    [
        ("  status: complete\n  dirty: 0 (0B)\n", "complete", "0 (0B)"),
        ("  status: degraded\n  dirty: 2097152 (2.0MB)\n", "degraded", "2097152 (2.0MB)"),
        ("  dirty: 0 (0B)\n", "", "0 (0B)"),
        ("", "", "?"),
    ],
)
def test_rows_that_can_be_missing(rows: str, status: str, dirty: str) -> None:
    found = resource(f"env1:\n  role: primary\n  remoteaddr: 172.16.0.101\n{rows}")
    assert (found.status, found.dirty) == (status, dirty)


def test_a_node_without_a_partner() -> None:
    assert resource("env1:\n  role: primary\n  remoteaddr: none\n").remote == "none"
    assert resource("env1:\n  role: init\n  remoteaddr: \n").role == "init"


@pytest.mark.parametrize(
    ("output", "err", "status", "kind", "words"),
    [
        (
            "",
            "[ERROR] Unable to connect to hastd via /var/run/hastctl: No such file or directory.\n",
            71,
            UnavailableError,
            "service hastd start",
        ),
        (
            "",
            "[ERROR] Unable to open configuration file /etc/hast.conf: No such file or directory.\n",
            78,
            ConfigError,
            r"write hast\.conf",
        ),
        ("", "[WARNING] [env1] Received error 1 from hastd.\n", 1, ConfigError, "correct HAST_RESOURCE"),
        ("", "", 0, ConfigError, "correct HAST_RESOURCE"),
        (
            "",
            "[ERROR] Unable to receive response from hastd: Connection reset by peer.\n",
            1,
            TemporaryError,
            "reset by peer",
        ),
        ("", "", 1, TemporaryError, "without a word"),
    ],
)
def test_what_it_says_when_there_is_nothing_to_say(
    output: str, err: str, status: int, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        resource(output, err, status)


@pytest.mark.parametrize("command", ["hastctl status; echo $?", "hastctl role secondary env1; echo $?; hastctl status"])
def test_a_live_error(command: str) -> None:
    output = outputs("hast", command)[0]
    line = next(line for line in output.splitlines() if line.startswith(("[ERROR]", "[WARNING]")))
    with pytest.raises((UnavailableError, ConfigError)):
        resource("", line, 71 if "ERROR" in line else 1)


@given(st.text())
def test_no_text_breaks_it_in_another_way(words: str) -> None:
    with contextlib.suppress(ConfigError, ValueError):
        hast_resource.parse(answer(words), "env1")


# What is there.


@pytest.mark.parametrize(
    ("output", "node", "word"),
    [
        ("role: primary\n  status: complete\n", True, plans.READY),
        ("role: primary\n  status: degraded\n", True, plans.DEGRADED),
        ("role: primary\n", True, plans.DEGRADED),
        ("role: primary\n  status: complete\n", False, plans.NOT_READY),
        ("role: secondary\n", False, plans.NOT_READY),
        # A node left over would be another's.
        ("role: secondary\n  status: complete\n", True, plans.NOT_READY),
        ("role: init\n", False, plans.NOT_READY),
    ],
)
def test_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, *, node: bool, word: str) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: node if path == "/dev/hast/env1" else exists(path))
    host = Stub({LIST: f"env1:\n  {output}  remoteaddr: x\n  dirty: 4096 (4.0KB)\n"}).host
    seen = done(role(tmp_path).observe(host))
    assert seen.status == word
    assert word == plans.NOT_READY or "4096 (4.0KB) dirty" in seen.detail
    assert done(role(tmp_path).commands(host, "start")) == [("hastctl", "role", "primary", "env1")]
    stopping = [] if word == plans.NOT_READY else [("hastctl", "role", "secondary", "env1")]
    assert done(role(tmp_path).commands(host, "stop")) == stopping


def test_a_device_of_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``name`` in hast.conf(5): only hastd knows it."""
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/hast/vol1")
    stub = Stub({LIST: lists()["primary"].replace("provname: env1", "provname: vol1")})
    assert done(role(tmp_path).device(stub.host)) == "/dev/hast/vol1"


def test_the_role_after_a_stop_is_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    stub = Stub({LIST: lists()["primary"]})
    found = done(role(tmp_path, HAST_STOP_ROLE="init").commands(stub.host, "stop"))
    assert found == [("hastctl", "role", "init", "env1")]


def test_degraded_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    stub = Stub({LIST: lists()["primary"]})
    assert done(role(tmp_path).check(stub.host)) is None
    assert stub.warnings == [
        "hast resource env1 is degraded: nothing is replicated to 172.16.0.101 (it is away, or has data that this node "
        "lacks: syslog there says split brain)"
    ]


@pytest.mark.parametrize(("now", "dead"), [("primary", False), ("secondary", True)])
def test_a_device_that_nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: str, *, dead: bool) -> None:
    """All of hastd(8) was killed, and started anew: init_ggate() in sbin/hastd/primary.c takes the device up again."""
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    left = "hastd(8) was started anew, and does not serve the device" if dead else ""
    assert done(role(tmp_path).why_down(Stub({LIST: lists()[now]}).host)) == left


def test_a_device_without_hastd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of all environments must not end with it."""
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    gone = answer(err="[ERROR] Unable to connect to hastd via /var/run/hastctl: No such file or directory.", status=71)
    assert done(role(tmp_path).why_down(Stub({LIST: gone}).host)) == "hastd(8) is not running"


def test_a_device_that_nobody_serves_is_no_reason_against_another_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving primary would take it away from under its mount; this node is none."""
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    stub = Stub({LIST: lists()["secondary"], "hastctl role secondary env1": ""})
    done(role(tmp_path)._become(stub.host, "secondary"))
    assert stub.called == [LIST, "hastctl role secondary env1"]


@pytest.mark.parametrize("made", [True, False])
def test_the_role_while_geom_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, made: bool) -> None:
    """It waits for a device that this run has made, and nobody has it; of any other, somebody can have it."""
    monkeypatch.setattr(os.path, "exists", lambda path: True)

    class Waiting(Stub):
        async def ask(self, argv: Sequence[str], *given: Any, **keys: Any) -> Any:
            if argv[0] == "sysctl":
                raise NoResponseError("no answer in 10.0 s")
            return await super().ask(argv, *given, **keys)

    one = role(tmp_path)
    learnt: dict[tuple[object, str], bool] = {(one, "made primary"): True} if made else {}
    others = Entry("/dev/hast/env10", "/mnt/other", "ufs")
    stub = Waiting({LIST: lists()["primary"]}, [others])
    stub.learnt.update(learnt)
    with contextlib.nullcontext() if made else pytest.raises(NoResponseError):
        done(one._check_unused(stub.host, "secondary"))
    mine = Waiting({LIST: lists()["primary"]}, [Entry("/dev/hast/env1.eli", "/mnt/h", "ufs")])
    mine.learnt.update(learnt)
    with pytest.raises(TemporaryError, match="/mnt/h" if made else "no answer"):
        done(one._check_unused(mine.host, "secondary"))


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("172.16.0.101", ("172.16.0.101", 8457)),
        ("tcp4://172.16.0.101:9000", ("172.16.0.101", 9000)),
        ("tcp://node2.example.com", ("node2.example.com", 8457)),
        ("tcp6://[fd00::2]:9000", ("fd00::2", 9000)),
        ("fd00::2", ("fd00::2", 8457)),
    ],
)
def test_addresses_of_hast_conf(address: str, found: tuple[str, int]) -> None:
    assert hast_resource.split_address(address) == found


def test_the_question_to_the_other_node() -> None:
    """A hast_main_header (sbin/hastd/hast_proto.c), then a struct nvhdr (sbin/hastd/nv.c) for each field."""
    assert hast_resource.request("env1") == (
        b"\x01" b"\x3c\0\0\0"
        b"\x11\x09" b"\x05\0\0\0" b"resource\0\0\0\0\0\0\0\0" b"env1\0\0\0\0"
        b"\x0a\x06" b"\x10\0\0\0" b"token\0\0\0" b"envstart asks it"
    )  # fmt: skip


@pytest.mark.parametrize("forgets", [False, True])
def test_the_role_is_never_changed_under_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, forgets: bool
) -> None:
    """The device is taken by force (tests/transcripts/hast.txt); also when the mount table is from mount(8)."""
    gate = Geom("GATE", "hast/env1", (Makes("hast/env1"),))
    mesh = text(gate, Geom("VFS", "ffs.hast/env1", (Uses("hast/env1", "r1w1e1"),)))
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    answers = {LIST: lists()["primary"], "sysctl -n kern.geom.confxml": mesh, "hastctl role secondary env1": ""}
    stub = Stub(answers, [Entry("/dev/hast/env1", "/mnt/h", "ufs")])
    stub.forgets = forgets
    with pytest.raises(TemporaryError, match="/mnt/h"):
        done(role(tmp_path).stop(stub.host))
    assert "hastctl role secondary env1" not in stub.called


def test_elsewhere_than_on_freebsd(tmp_path: Path) -> None:
    stub = Stub()
    stub.platform = "linux"
    with pytest.raises(UnavailableError, match="on FreeBSD only"):
        done(role(tmp_path).check(stub.host))
