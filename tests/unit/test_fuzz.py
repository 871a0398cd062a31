"""Whatever a command prints, a file holds or a caller says is read, or refused by one clear line.

No other exception may come of it: that would be "a bug in envstart" and status 70.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import mesh_text
import pytest
from fuzzing import CONFIGURATION, DEEP, MOUNTED, VERBS, WORDS, bent, mutants, tries
from hypothesis import example, given
from hypothesis import strategies as st
from sim.fakes import statfs
from stubs import Stub, answer, done, jail, outputs

from envstart import environment
from envstart.backends import gluster
from envstart.cbsd import inventory
from envstart.cli import main
from envstart.config import list_file, load, schema
from envstart.engine import registry
from envstart.errors import ConfigError, EnvstartError, TemporaryError, UsageError
from envstart.hooks import unchanged
from envstart.mounts import table as tables
from envstart.mounts import table_freebsd, table_linux
from envstart.steps import thin, zfs
from envstart.storage import (
    devices_freebsd,
    hast_resource,
    host_mark,
    iscsi_freebsd,
    iscsi_session,
    rbd,
    superblock,
)
from envstart.storage.graph import Graph
from envstart.storage.reserved_disk import ReservedDisk
from envstart.system import files, filesystem, probe, rundir
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.log import Report, printable

T = TypeVar("T")
Parse = Callable[[Result], Any]

MOUNTINFO = (
    b"25 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw\n"
    b"42 25 254:0 /data/j\\0401 /mnt/a\\040b ro - ext4 /dev/vda rw\n"
    b"43 25 0:50 / /mnt/n rw master:1 - nfs4 nas:/nfs rw,vers=4.2\n"
)
STATFS = statfs(b"/dev/da0", b"/", b"ufs") + statfs(b"nas:/x\xff y", b"/mnt/a b", flags=1)


def clear(error: EnvstartError) -> None:
    """Hold an error to one line that can be read."""
    line = printable(str(error))
    assert line
    assert line.isprintable()
    assert error.status in range(1, 79)
    assert error.status != os.EX_SOFTWARE


def asked(parse: Parse, result: Result) -> Any:
    """Return what a hook makes of a command's answer: the value, or the error that it ends with."""
    host = Host(Report("test"))

    async def run(argv: Sequence[str], **_: object) -> Result:
        return result

    vars(host)["run"] = run
    try:
        return host.complete(host.ask(("command",), parse))
    except EnvstartError as error:
        clear(error)
        return error


def table(read: Callable[[], list[tables.Entry]]) -> None:
    """Use a mount table that could be read."""
    host = Host(Report("test"))

    async def _read_table() -> list[tables.Entry]:
        return read()

    async def sleep(seconds: float) -> None:
        pass

    vars(host).update(_read_table=_read_table, sleep=sleep)
    try:
        found = host.complete(host.mounts())
    except TemporaryError as error:
        clear(error)
        return
    for entry in found:
        assert entry in found.at(entry.point)
        assert printable(str(entry)).isprintable()
        assert found.mount_of(entry.point) is not None
        found.server(entry.point)
        found.origin(entry.point)
        found.shows(entry, "nfs", "nas:/x", linux=True)
        found.shows(entry, "nullfs", "/a b", linux=False)
    found.below("/mnt")
    found.nullfs_on("/mnt")


# The mount table.


@tries(150)
@given(bent([MOUNTED]) | mutants([MOUNTED.encode()], [b'"node":', b"null"]).map(os.fsdecode))
def test_the_json_of_mount(text: str) -> None:
    table(lambda: tables.parse_libxo(text))


@tries(150)
@given(mutants([MOUNTINFO], [b" - ", b"\\040", b"/", b" / / "]))
def test_mountinfo(text: bytes) -> None:
    table(lambda: table_linux.parse_mountinfo(text))


@tries(150)
@given(mutants([STATFS, STATFS * 3], [statfs(b"a", b"/")]))
def test_the_buffer_of_getfsstat(data: bytes) -> None:
    table(lambda: table_freebsd.parse_statfs(data))


# What commands print.

# Short and long, as a live iscsictl has printed them; the long one has the secrets of all sessions in it.
_SAID = outputs("iscsi", "iscsictl -L --libxo json,pretty")[0]
SESSIONS = [_SAID[_SAID.index("{") : _SAID.rindex('{"iscsictl"')]]
SECRET = "secret-of-chap"
VERBOSE = _SAID[_SAID.rindex('{"iscsictl"') :].replace('"target": {', f'"target": {{"secret": "{SECRET}",')


IMAGES = [
    json.dumps([{"id": "0", "pool": "jails", "namespace": "", "image": "j1", "snap": "-", "device": "/dev/ggate0"}]),
    json.dumps([{"id": "0", "pool": "jails", "namespace": "n", "name": "j1", "snap": "", "device": "/dev/rbd0"}]),
]


def images(result: Result) -> list[str]:
    return rbd.parse_list(result, "jails/j1")


BUSES = b"""scbus2 on iscsi3 bus 0:
<FREEBSD CTLDISK 0001>             at scbus2 target 0 lun 0 (da0,pass1)
<>                                 at scbus2 target -1 lun ffffffff ()
"""


@pytest.mark.parametrize("text", DEEP, ids=["lists", "objects"])
def test_json_that_is_nested_without_end(text: str) -> None:
    table(lambda: tables.parse_libxo(text))
    for parse in (iscsi_freebsd.parse, iscsi_freebsd.parse_ids, images):
        assert isinstance(asked(parse, answer(text)), TemporaryError)


@tries(150)
@given(bent(SESSIONS) | mutants([text.encode() for text in SESSIONS]).map(os.fsdecode))
def test_sessions_of_iscsictl(text: str) -> None:
    found = asked(iscsi_freebsd.parse, answer(text))
    for one in found if isinstance(found, list) else ():
        iscsi_session.normal_portal(one.portal)
        iscsi_session.split_portal(one.portal)
        assert isinstance(one.bus, int)


@tries(150)
@given(bent([VERBOSE]) | mutants([VERBOSE.encode()]).map(os.fsdecode))
def test_numbers_of_sessions_never_tell_a_secret(text: str) -> None:
    assert SECRET in VERBOSE
    found = asked(iscsi_freebsd.parse_ids, answer(text))
    assert not isinstance(found, EnvstartError) or SECRET not in str(found)


@tries(100)
@given(mutants([BUSES], [b" lun ", b"(da0)", b"scbus2 on iscsi"]))
def test_buses_of_camcontrol(text: bytes) -> None:
    asked(iscsi_freebsd.parse_buses, answer(os.fsdecode(text)))


RESERVATIONS = [text.encode() for text in outputs("iscsi-reservations", "camcontrol")]
QUESTIONS = ("read_keys", "read_reservation", "read_full_status")


@tries(150)
@given(mutants(RESERVATIONS, [b"Reservation Key:", b"0: 0x", b": 0x"]))
def test_reservations_of_camcontrol(text: bytes) -> None:
    answers = {f"camcontrol persist da0 -i {what}": os.fsdecode(text) for what in QUESTIONS}
    disk = ReservedDisk(Stub(answers).host, "da0", "the disk")
    for ask in (disk.holder, disk.keys, disk.holding_initiator):
        try:
            done(ask())
        except TemporaryError as error:
            clear(error)


RESOURCES = [text.encode() for text in outputs("hast", "hastctl list env1")]


@tries(100)
@given(mutants(RESOURCES, [b"role: ", b"status: "]), st.sampled_from((0, 1, 71)))
def test_resources_of_hastctl(text: bytes, status: int) -> None:
    asked(lambda result: hast_resource.parse(result, "env1"), answer(os.fsdecode(text), status=status))


@tries(100)
@given(bent(IMAGES) | mutants([text.encode() for text in IMAGES]).map(os.fsdecode))
def test_images_of_rbd(text: str) -> None:
    found = asked(images, answer(text))
    assert isinstance(found, EnvstartError) or all(isinstance(device, str) for device in found)


MESH = mesh_text.text(
    mesh_text.Geom("DISK", "da0", (mesh_text.Makes("da0"),)),
    mesh_text.Geom("PART", "da0", (mesh_text.Uses("da0", "r1w1e2"), mesh_text.Makes("da0p1"))),
    mesh_text.Geom("LABEL", "da0p1", (mesh_text.Uses("da0p1", "r1w1e1"), mesh_text.Makes("gpt/j1"))),
    mesh_text.Geom("ELI", "gpt/j1.eli", (mesh_text.Uses("gpt/j1", "r1w1e1"), mesh_text.Makes("gpt/j1.eli"))),
    mesh_text.Geom("VFS", "ffs.gpt/j1.eli", (mesh_text.Uses("gpt/j1.eli", "r1w1e1"),)),
).encode()


@tries(150)
@given(mutants([MESH], [b"r1w1e1", b"<consumer", b"</geom>", b"<name>da0</name>"]))
def test_the_graph_of_geom(text: bytes) -> None:
    graph = asked(devices_freebsd.parse, answer(os.fsdecode(text)))
    for provider in graph if isinstance(graph, Graph) else ():
        graph.users(provider)
        graph.blocking(provider)
        graph.on(provider, "ELI")
        graph.same(provider.name, "da0")


@tries(60)
@given(mutants([b"2c4b9a1e-0000-11f0-8000-525400123456\n"]), mutants([b"/pool/j1\nnoauto\n", b"none\non\n"]))
def test_small_answers(uuid: bytes, properties: bytes) -> None:
    asked(host_mark._uuid, answer(os.fsdecode(uuid)))
    asked(zfs._parse, answer(os.fsdecode(properties)))


# What files hold.


def written(path: Path, data: bytes, mode: int = 0o644) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


@tries(60)
@given(data=mutants([b"node2.example.com\n"], [b"\x1b[31m", b"\xe2\x80\xae"]))
def test_a_lease(tmp_path: Path, data: bytes) -> None:
    name = written(tmp_path / "nodename", b"node1\n")
    found = probe.other_node(written(tmp_path / "locked", data), name)
    assert found is None or printable(found[0]).isprintable()


@tries(100)
@given(data=mutants([b"123.456 77\n", f"{time.monotonic():.3f} 1\n".encode()], [b"nan", b"inf", b"-", b"1e999", b"_"]))
def test_records_of_the_state_directory(tmp_path: Path, data: bytes) -> None:
    before, rundir.DIR = rundir.DIR, str(tmp_path)
    try:
        written(tmp_path / "x.started", data)
        age = rundir.age("x.started")
        assert age is None or age >= 0
        written(tmp_path / "x.note", data)
        source, _, number = files.load_note("x").partition("\n")
        files.save_note("x", f"{source}\n{number}")
        assert os.fsencode(files.load_note("x")).replace(b"\r\n", b"\n").startswith(os.fsencode(source))
    finally:
        rundir.DIR = before


# A dictionary with a tuple as its key that is not yet complete: marshal ends the interpreter by it.
CYCLE = b"\xa9\x01{r\0\0\0\0r\0\0\0\0"


@tries(60)
@given(mutants([unchanged._sum(CYCLE) + CYCLE]))
def test_the_record_of_a_good_start(data: bytes) -> None:
    if data != unchanged._sum(CYCLE) + CYCLE:
        with pytest.raises(ValueError):
            unchanged.unseal(data)


LOG = b"[2026-11-22 11:01:18.331592 +0000] E [MSGID: 114058] [client.c:1:x] 0-gv0: failed to get the port\n"


@tries(60)
@given(data=mutants([LOG * 3], [b"] E ", b"] ", b"["]))
def test_the_log_of_a_client(tmp_path: Path, data: bytes) -> None:
    assert gluster.log_errors(written(tmp_path / "log", data), "2026-11-22 11:01:18").isprintable() or True


@tries(60)
@given(data=st.binary(max_size=9000), place=st.sampled_from((0, 1024, 8192, 65536)))
def test_the_superblock_of_a_device(tmp_path: Path, data: bytes, place: int) -> None:
    path = written(tmp_path / "disk", bytes(place) + data)
    for fstype in ("ufs", "ext4"):
        assert superblock.read(path, fstype) in (superblock.CLEAN, superblock.DIRTY, superblock.UNKNOWN)


THIN = b"""/thin/base /usr/jails/jails-data/env1-data nullfs ro 0 0
# x
/a\\040b /usr/jails/jails-data/env1-data/m nullfs rw,nosuid
"""


@tries(150)
@given(mutants([THIN], [b"nullfs", b"\\040", b"\\134", b" ro ", b"/..", b"0"]))
def test_the_fstab_of_a_thin_jail(text: bytes) -> None:
    root = jail().data
    try:
        lines = thin.read(os.fsdecode(text), "/thin/fstab", root)
    except ConfigError as error:
        clear(error)
        return
    for line in lines:
        assert line.point == root or line.point.startswith(root + "/")
        assert ".." not in line.point.split("/") + line.path.split("/")


LIST = b"[j1]\ndata = /srv/j1/data\nsystem = /srv/j1/system\n[j2]\ndata=\"/srv/j2\"\nsystem=/srv/s2 # x\nfstab=''\n"


@tries(150)
@given(
    data=mutants(
        [LIST], [b"[", b"]", b"[[x]]\n", b"'''", b'"""', b"=", b"[DEFAULT]\n", b"$", b"%(x)s", b"\xef\xbb\xbf"]
    )
)
def test_a_list_of_environments(tmp_path: Path, data: bytes) -> None:
    try:
        found = list_file.environments(written(tmp_path / "list", data))
    except EnvstartError as error:
        clear(error)
        return
    assert all(one.data.startswith("/") for one in found)


KEYS = [option.name for name in registry.NAMES for option in registry.backend(name).OPTIONS]


@tries(200)
@given(
    data=mutants([CONFIGURATION], [b"$(id)", b"`", b"[", b"'", b"{name}", *(f"{key}=".encode() for key in KEYS)]),
    backend=st.sampled_from(list(registry.NAMES)),
)
def test_the_configuration_of_every_backend(tmp_path: Path, data: bytes, backend: str) -> None:
    """What the values mean is held against sh(1) in test_shell.py."""
    path = written(tmp_path / "conf", data)
    options = registry.backend(backend).OPTIONS
    try:
        registry.make_plan(backend, jail("web1"), load.load(backend, options, "web1", path, None))
    except EnvstartError as error:
        clear(error)


@tries(200)
@given(st.sampled_from([(n, o) for n in registry.NAMES for o in registry.backend(n).OPTIONS]), st.text(max_size=20))
def test_the_value_of_every_key(row: tuple[str, schema.Option[Any]], value: str) -> None:
    try:
        row[1].parse(value)
    except ValueError as error:
        wrong = str(error)
        assert wrong, "it says nothing"


# CBSD's database.


def database(path: Path) -> bytes:
    """Twenty environments, in a file of several pages."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute(
            "CREATE TABLE jails (jname TEXT, emulator TEXT, jid INTEGER, status INTEGER, path TEXT, data TEXT, "
            "baserw INTEGER, mnt_start TEXT, mnt_stop TEXT)"
        )
        connection.execute("CREATE TABLE bhyve (jname TEXT, mnt_start TEXT, mnt_stop TEXT)")
        for number in range(20):
            row = (f"j{number}", "jail", number, 1, "", f"jails-data/j{number}-data", 0, "/h/env_start_nfs", "")
            connection.execute(f"INSERT INTO jails VALUES ({', '.join('?' * 9)})", row)
        connection.execute("INSERT INTO bhyve VALUES ('j2', '/h/env_start_iscsi', '')")
        connection.commit()
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return database(tmp_path_factory.mktemp("db") / "local.sqlite")


def collected(top: Path, data: bytes) -> list[inventory.EnvironmentRecord]:
    """Return what an inventory has of a workdir with this database."""
    (top / "var/db").mkdir(parents=True, exist_ok=True)
    path = top / "var/db/local.sqlite"
    written(path, data)
    rows, problems, complete, _ = inventory.collect(str(top))
    assert complete == (not problems)
    assert all(printable(message + hint).isprintable() for message, hint in problems)
    # It is only read.
    assert path.read_bytes() == data
    # SQLite itself makes these two beside a database with a write-ahead log.
    assert set(os.listdir(top / "var/db")) - {"local.sqlite-wal", "local.sqlite-shm"} == {"local.sqlite"}
    return [inventory.EnvironmentRecord(str(top), row) for row in rows]


def test_a_database_that_is_whole(tmp_path: Path, whole: bytes) -> None:
    names = {(one.name, one.backend) for one in collected(tmp_path, whole)}
    assert names == {(f"j{number}", "nfs") for number in range(20)}


def test_a_database_that_was_cut_at_every_page(tmp_path: Path, whole: bytes) -> None:
    assert len(whole) > 4 * 512
    for size in range(0, len(whole), 512):
        for cut in (size, size + 1, size + 100):
            collected(tmp_path, whole[:cut])
            written(tmp_path / "local.sqlite", whole[:cut])
            filesystem.bare([str(tmp_path)])


def test_a_database_whose_error_is_no_text(tmp_path: Path, whole: bytes) -> None:
    broken = whole.replace(b"jailsjails", b"j\xc5ilsjails").replace(b"CREATE TABLE jails", b"CREATE TABLE jai(s")
    with (
        closing(sqlite3.connect(written(tmp_path / "local.sqlite", broken))) as connection,
        pytest.raises(UnicodeError),
    ):
        connection.execute("SELECT 1 FROM sqlite_master")
    assert filesystem.bare([str(tmp_path)]) == [(["local.sqlite"], True)]
    assert collected(tmp_path / "W", broken) == []


@tries(150)
@given(data=st.data())
def test_a_database_with_accidents(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    broken = data.draw(mutants([whole], [b"jname", b"INTEGER", b"\0" * 8]))
    collected(tmp_path, broken)
    written(tmp_path / "local.sqlite", broken)
    filesystem.bare([str(tmp_path)])


@tries(100)
@example(rows=[("j1", "jail", float("inf"), b"1", "", "", "x", "", "")])
@given(
    rows=st.lists(
        st.tuples(*[st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text() | st.binary()] * 9),
        max_size=4,
    )
)
def test_a_database_with_values_that_nobody_expects(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    path = tmp_path / "made"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        columns = "jname, emulator, jid, status, path, data, baserw, mnt_start, mnt_stop"
        connection.execute(f"CREATE TABLE jails ({columns})")
        for row in rows:
            connection.execute(f"INSERT INTO jails VALUES ({', '.join('?' * 9)})", row)
        connection.commit()
    for one in collected(tmp_path, path.read_bytes()):
        assert one.environment is not None or one.problem


# What a caller says.


@tries(400)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=9))
def test_the_command_line_of_a_hook(argv: list[str]) -> None:
    try:
        arguments = environment.parse(argv)
        found = arguments.environment()
    except UsageError as error:
        clear(error)
        return
    for path in (found.data, found.system, found.fstab, found.rcconf):
        assert path is None or (path.startswith("/") and ".." not in path.split("/") and path != "/")


@tries(100)
@given(st.dictionaries(st.sampled_from(["jname", "data", "workdir", "newjname"]), st.sampled_from(WORDS) | st.text()))
def test_the_variables_of_a_hook(variables: dict[str, str]) -> None:
    try:
        environment.from_variables(variables)
    except UsageError as error:
        clear(error)


@tries(200)
@given(st.lists(st.sampled_from(VERBS + WORDS) | st.text(max_size=5), max_size=7))
def test_the_command_line_of_the_hand_tool(argv: list[str]) -> None:
    try:
        main.parser().parse_args(argv)
    except UsageError as error:
        clear(error)
    except SystemExit as end:
        # Help and version, which somebody has asked for.
        assert end.code == 0  # noqa: PT017
