"""How the text of each kind of key is read, and that the rows of all backends are sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envstart.backends import nfs
from envstart.config import schema
from envstart.engine import registry

_SECONDS = schema.integer(2, 86400, "seconds")
_WORD = schema.choice("refuse", "warn")


@pytest.mark.parametrize(
    ("parse", "value", "read"),
    [
        (schema.text, "a b", "a b"),
        (schema.text, "é\udce9", "é\udce9"),
        (schema.words, "", ()),
        (schema.words, "  a  b ", ("a", "b")),
        (schema.words, "a\tb\n  c", ("a", "b", "c")),
        (schema.words, "a\u00a0b\u3000c", ("a\u00a0b\u3000c",)),
        (schema.boolean, "1", True),
        (schema.boolean, "YES", True),
        (schema.boolean, "on", True),
        (schema.boolean, "0", False),
        (schema.boolean, "False", False),
        (_WORD, "warn", "warn"),
        (_SECONDS, "2", 2),
        (_SECONDS, "0007", 7),
        (_SECONDS, "86400", 86400),
        (schema.directory, "/", "/"),
        (schema.directory, "//a/./b//", "/a/b"),
        (schema.directory, "/a b", "/a b"),
        (schema.directory, "/...", "/..."),
        (schema.names, "etc bin/sh", ("etc", "bin/sh")),
        (schema.names, "..a", ("..a",)),
    ],
)
def test_read(parse: Callable[[str], Any], value: str, read: object) -> None:
    assert parse(value) == read


@pytest.mark.parametrize(
    ("parse", "value", "text"),
    [
        (schema.text, "a\nb", "has a control character"),
        (schema.text, "a\tb", "has a control character"),
        (schema.text, "\x7f", "has a control character"),
        (schema.text, "\x9b2J", "has a control character"),
        (schema.text, "a\u2028b", "has a control character"),
        (schema.words, "a\x1bb", "has a control character"),
        (schema.boolean, "2", "is neither 1 nor 0"),
        (schema.boolean, "", "is neither 1 nor 0"),
        (schema.boolean, " 1", "is neither 1 nor 0"),
        (_WORD, "Warn", "is none of refuse, warn"),
        (_SECONDS, "1", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "86401", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "-1", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "1e9", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "10s", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "2.5", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "\u0663", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "\u00b2", "is invalid: expected 2..86400 seconds"),
        (_SECONDS, "9" * 5000, "is invalid: expected 2..86400 seconds"),
        (schema.directory, "a", "is not an absolute path"),
        (schema.directory, "", "is not an absolute path"),
        (schema.directory, "/a/../b", "has a .. in it"),
        (schema.directory, "/a\nb", "has a control character"),
        (schema.names, "/etc", "has '/etc', which is no name below the directory"),
        (schema.names, "etc a/../..", "has 'a/../..', which is no name below the directory"),
    ],
)
def test_fault_103_refused(parse: Callable[[str], Any], value: str, text: str) -> None:
    """The range is told."""
    with pytest.raises(ValueError) as caught:
        parse(value)
    assert str(caught.value) == text


_PARSERS = [schema.text, schema.words, schema.boolean, _WORD, _SECONDS, schema.directory, schema.names]


@given(st.sampled_from(_PARSERS), st.text())
def test_a_parser_raises_nothing_else(parse: Callable[[str], Any], value: str) -> None:
    with contextlib.suppress(ValueError):
        parse(value)


@given(st.text(alphabet="/.ab ~é", max_size=12))
def test_a_directory_is_normal_and_stays_so(value: str) -> None:
    try:
        found = schema.directory(value)
    except ValueError:
        return
    assert found.startswith("/")
    assert found == "/" or not found.endswith("/")
    assert not {"", ".", ".."} & set(found[1:].split("/")) or found == "/"
    assert schema.directory(found) == found


@pytest.mark.parametrize("backend", registry.NAMES)
def test_rows(backend: str) -> None:
    """Names are unique, every default can be read, and what is empty by default says what that means or needs none."""
    rows = registry.backend(backend).OPTIONS
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert row.name.isascii()
        assert row.name == row.name.upper()
        assert row.help
        if row.default:
            row.read(row.default, "jail1")
        if row.default is not None and row.default_help:
            assert row.default == ""


# Every key in which {name} is filled in, a value that has it, and what that means for jail1.
_FILLED = {
    "BASE_DIR": ("/thin/base-{name}", "/thin/base-jail1"),
    "SKELETON_DIR": ("/thin/skeleton/{name}", "/thin/skeleton/jail1"),
    "THIN_FSTAB": ("/thin/{name}.fstab", "/thin/jail1.fstab"),
    "ZFS_CLONE": ("tank/{name}", "tank/jail1"),
    "GLUSTER_LOG_FILE": ("/var/log/{name}.log", "/var/log/jail1.log"),
    "CEPH_USER": ("{name}", "jail1"),
    "CEPH_KEYRING": ("/root/{name}.keyring", "/root/jail1.keyring"),
    "RBD_IMAGE": ("jails/{name}", "jails/jail1"),
    "HAST_RESOURCE": ("vm-{name}", "vm-jail1"),
    "GELI_PROVIDER": ("/vol/{name}/{name}.img", "/vol/jail1/jail1.img"),
    "GELI_KEYFILE": ("/root/{name}.key /root/all.key", ("/root/jail1.key", "/root/all.key")),
    "GELI_PASSFILE": ("/root/{name}.pass", ("/root/jail1.pass",)),
    "ISCSI_TARGET": ("iqn.2026-11.lab:{name}", "iqn.2026-11.lab:jail1"),
    "ISCSI_SERIAL": ("disk-{name}", "disk-jail1"),
    "ISCSI_MULTIPATH": ("{name}", "jail1"),
    "ISCSI_CHAP_USER": ("host1 {name}", "host1 jail1"),
    "ISCSI_CHAP_SECRET_FILE": ("/root/{name}.chap", "/root/jail1.chap"),
    "ISCSI_MUTUAL_USER": ("{name}", "jail1"),
    "ISCSI_MUTUAL_SECRET_FILE": ("/root/{name}.chap", "/root/jail1.chap"),
}


def test_the_name_of_the_environment_is_filled_in() -> None:
    """The help of such a key says so, and no other key's."""
    rows = {row.name: row for backend in registry.NAMES for row in registry.backend(backend).OPTIONS}
    said = {name for name, row in rows.items() if schema.NAME in row.help}
    assert said == set(_FILLED)
    for name, (value, read) in _FILLED.items():
        assert rows[name].read(value, "jail1") == read


@pytest.mark.parametrize(
    ("fills", "value", "text"),
    [
        ((), "/a/{name}", "has '{name}'; nothing is filled in here; write it out, in a section [NAME] if need be"),
        ((), "{}{a}", "has '{a}'; nothing is filled in here; write it out, in a section [NAME] if need be"),
        ((schema.NAME,), "{name}-{jname}", "has '{jname}'; of words with braces there is {name}"),
        ((schema.NAME,), "{{NAME}}", "has '{NAME}'; of words with braces there is {name}"),
        (("{old}", "{new}"), "{old} {name}", "has '{name}'; of words with braces there is {old} and {new}"),
    ],
)
def test_what_nothing_is_filled_in_for(fills: tuple[str, ...], value: str, text: str) -> None:
    """A key file of the name {name}.key was looked for, and was not there."""
    with pytest.raises(ValueError) as caught:
        schema.Option("A", schema.text, "", "the a", placeholders=fills).read(value, "jail1")
    assert str(caught.value) == text


@pytest.mark.parametrize("value", ["{", "}", "{}", "a}{b", "{a,b}", "{ name }", "{5ad0c3f1-9b}", "{name"])
def test_braces_that_are_no_word_stay(value: str) -> None:
    for fills in ((), (schema.NAME,)):
        assert schema.Option("A", schema.text, "", "the a", placeholders=fills).read(value, "jail1") == value


@pytest.mark.parametrize("backend", registry.NAMES)
@pytest.mark.parametrize("value", ["\x00", "\udce9", "[", "[]", "-o", "-o ,", ",", "=", "..", "$(x)", " " * 100])
def test_no_parser_of_a_backend_raises_anything_else(backend: str, value: str) -> None:
    for row in registry.backend(backend).OPTIONS:
        with contextlib.suppress(ValueError):
            row.parse(value)


def test_a_minor_version_is_written_as_both_systems_read_it() -> None:
    assert nfs.mount_options("-overs=4.1,hard") == ("vers=4", "minorversion=1", "hard")


@pytest.mark.parametrize(
    "value", ["-h", "-", "a:b", "[]", "[a b]", "[a/b]", "a/b", "a,b", "a b", "[host]", "::1%", "x@y"]
)
def test_what_is_no_host_name_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        nfs.host_name(value)


@pytest.mark.parametrize("value", ["nas", "172.16.0.1", "nas.example.org", "[fd00::1]", "fe80::1%em0"])
def test_host_names_and_addresses(value: str) -> None:
    assert nfs.host_name(value).strip("[]") == value.strip("[]")


@pytest.mark.parametrize("value", ["-oupdate", "-obg", "-onoauto", "-onfsvers=4", "-onfsv4,vers=3", "-ounion"])
def test_mount_options_that_must_not_be_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        nfs.mount_options(value)
