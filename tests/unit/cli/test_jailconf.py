"""``envstart jailconf``: files for jail(8), read back by a small grammar of jail.conf(5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jail_conf import filled, jail, statements, tokens

from envstart.cli import jailconf
from envstart.errors import UsageError
from envstart.steps import thin

ROOT = Path(__file__).resolve().parents[3]
# What the two documents that the layout comes from set, for all jails and for one of them.
SEED = """
devfs_ruleset = 5;
exec.start = "/bin/sh /etc/rc";
exec.stop = "/bin/sh /etc/rc.shutdown";
exec.consolelog = "/var/log/jail_console_${name}.log";
allow.raw_sockets;
exec.clean;
mount.devfs;
allow.mount;
allow.mount.devfs;
enforce_statfs = 1;
host.hostname = "${name}";
path = "/zdata/jails/${name}-nullfs-base";
interface = "${bridge}";
vnet;
vnet.interface = "${epair}b";
$id = "253";
$ip = "192.168.7.253/24";
$gateway = "192.168.7.101";
$bridge = "igc0bridge";
$epair = "epair${id}";
exec.prestart = "ifconfig ${epair} create up";
exec.prestart += "ifconfig ${epair}a up descr jail:${name}";
exec.prestart += "ifconfig ${bridge} addm ${epair}a up";
exec.start += "ifconfig ${epair}b ${ip} up";
exec.start += "route add default ${gateway}";
exec.poststop = "ifconfig ${bridge} deletem ${epair}a";
exec.poststop += "ifconfig ${epair}a destroy";
"""
SEED_FSTAB = """
/zdata/jails/templates/14.3-RELEASE-base /zdata/jails/dev-nullfs-base nullfs ro 0 0
/zdata/jails/containers/dev /zdata/jails/dev-nullfs-base/skeleton nullfs rw 0 0
"""
DEV = {
    "name": "dev",
    "address": "192.168.7.253/24",
    "bridge": "igc0bridge",
    "base": "/zdata/jails/templates/14.3-RELEASE-base",
    "directory": "/zdata/jails",
    "hooks": "/usr/local/bin",
    "gateway": "192.168.7.101",
    "number": "253",
}


def made(**changes: Any) -> jailconf.Jail:
    return jailconf.Jail(**{**DEV, **changes})


def test_every_line_of_the_seed_is_there_but_the_fstab() -> None:
    name, read = jail(jailconf.conf(made()))
    assert name == "dev"
    assert sorted(set(read) - set(statements(tokens(SEED)))) == [
        ("exec.prepare", "=", "/usr/local/bin/env_start_nullfs -j ${name} -d ${path} -s ${path}.system"),
        ("exec.release", "=", "/usr/local/bin/env_stop_nullfs -j ${name} -d ${path} -s ${path}.system"),
    ]
    assert set(statements(tokens(SEED))) <= set(read)
    # The hooks have mounted by then what it lists.
    assert "mount.fstab" not in [statement[0] for statement in read]


def test_the_fstab_is_the_handbooks() -> None:
    text = jailconf.fstab(made())
    assert [line.split() for line in text.splitlines()] == [line.split() for line in SEED_FSTAB.split("\n")[1:-1]]
    assert [line.name for line in thin.read(text, "/x", "/zdata/jails/dev-nullfs-base")] == ["data", "skeleton"]


def test_commands_come_in_the_order_of_the_seed() -> None:
    _, read = jail(jailconf.conf(made()))
    for parameter in ("exec.prestart", "exec.start", "exec.poststop"):
        ours, theirs = ([row for row in rows if row[0] == parameter] for rows in (read, statements(tokens(SEED))))
        assert ours == theirs


def test_what_is_not_said_is_not_written() -> None:
    text = jailconf.conf(made(gateway=None, number="7", config="/root/thin.conf"))
    _, read = jail(text)
    assert "gateway" not in text
    assert "route" not in text
    known = [("name", "=", "dev"), *read]
    values = {name: filled(value, known) for name, sign, value in read if sign == "="}
    assert values["vnet.interface"] == "epair7b"
    path = "/zdata/jails/dev-nullfs-base"
    assert values["exec.prepare"].split()[1:] == f"-j dev -d {path} -s {path}.system -c /root/thin.conf".split()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "cannot name a jail ''"),
        ({"name": "7"}, "cannot name a jail '7'"),
        ({"name": "a b"}, "cannot name a jail 'a b'"),
        ({"name": "a;b"}, "cannot name a jail 'a;b'"),
        ({"name": "-a"}, "cannot name a jail '-a'"),
        ({"address": "192.168.7.253"}, "it has no prefix length, as in 192.168.7.111/24"),
        ({"address": "192.168.7.256/24"}, "cannot use --address '192.168.7.256/24'"),
        ({"address": "fd00::2/64"}, "cannot use --address 'fd00::2/64'"),
        ({"address": "192.168.7.0/24"}, "that is the network's own"),
        ({"address": "192.168.7.255/24"}, "or its broadcast address"),
        ({"gateway": "192.168.8.1"}, "it is no other address in 192.168.7.0/24"),
        ({"gateway": "192.168.7.253"}, "it is no other address in 192.168.7.0/24"),
        ({"gateway": "router"}, "cannot use --gateway 'router'"),
        ({"bridge": "bridge0;reboot"}, "that is no name of a network interface"),
        ({"bridge": "sixteen-letters-"}, "that is no name of a network interface"),
        ({"base": "base"}, "cannot use --base 'base': use an absolute path"),
        ({"base": '/a";'}, "cannot use --base"),
        ({"directory": "/my jails"}, "cannot use --dir '/my jails'"),
        ({"hooks": "/x$y"}, "cannot use --hooks"),
        ({"config": "/x y"}, "cannot use -c"),
        ({"number": "x"}, "cannot use --id 'x'"),
        ({"number": "1234567890"}, "cannot use --id '1234567890'"),
    ],
)
def test_what_cannot_be_written(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "envstart", "jailconf", *words], cwd=ROOT, capture_output=True, text=True
    )


def test_the_verb_prints_them() -> None:
    words = ["dev", "--address", DEV["address"], "--bridge", DEV["bridge"], "--gateway", DEV["gateway"]]
    words += ["--base", DEV["base"], "--dir", DEV["directory"]]
    assert run(*words).stdout == jailconf.conf(made(hooks=str(ROOT / "hooks"), number=None))
    words += ["--hooks", DEV["hooks"]]
    assert run(*words).stdout == jailconf.conf(made(number=None))
    assert run(*words, "--print-fstab").stdout == jailconf.fstab(made())


def test_a_mistake_is_one_line_and_a_status() -> None:
    for words in (["dev"], ["dev", "--address", "1.2.3.4", "--bridge", "b", "--base", "/b"]):
        ended = run(*words)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (os.EX_USAGE, "", 1)


def test_case_c17_two_networks_and_one_last_number() -> None:
    one = made(name="one", address="192.168.7.9/24", number=None)
    two = made(name="two", address="10.0.0.9/24", gateway=None, number=None)
    assert one.number != two.number
    assert f"ifconfig epair{one.number}a destroy" in jailconf.conf(one)
    assert made(name="one", address="192.168.7.9/24", number=None).number == one.number


def test_case_c17_a_number_that_another_jail_has_is_not_taken() -> None:
    free = made(number=None).number
    other = jailconf.numbers_in([f'other {{\n  $id = "{free}";\n  $epair = "epair${{id}}";\n}}\n'])
    assert other == {free: "other"}
    assert made(number=None, used=other).number not in other
    with pytest.raises(UsageError, match=f"jail other has epair{free}"):
        made(number=free, used=other)


def test_case_c17_the_number_of_a_jail_that_has_a_file_stays() -> None:
    used = jailconf.numbers_in([jailconf.conf(made(number="77")), 'x {\n exec.prestart = "ifconfig epair8 create";\n}'])
    assert used == {"77": "dev", "8": "x"}
    assert made(number=None, used=used).number == "77"
    assert made(number="78", used=used).number == "78"
