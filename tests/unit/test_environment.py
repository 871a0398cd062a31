"""What CBSD hands over, and what it must never be taken for."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envstart import environment, paths
from envstart.environment import Environment, from_variables, in_workdir, parse
from envstart.errors import UsageError

W = "/usr/jails"
DATA = f"{W}/jails-data/j1-data"
SYSTEM = f"{W}/jails-system/j1"
FSTAB = f"{W}/jails-fstab/j1"
RCCONF = f"{W}/jails-rcconf"
JAIL = ["-d", DATA, "-f", FSTAB, "-j", "j1", "-r", RCCONF, "-s", SYSTEM]
VM = ["-d", DATA, "-j", "j1", "-r", RCCONF, "-s", SYSTEM]


def _environment(argv: list[str]) -> Environment:
    return parse(argv).environment()


def _refusal(argv: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        _environment(argv)
    assert caught.value.status == 64
    return str(caught.value)


def _with(option: str, value: str) -> list[str]:
    """Return the jail's words with another value for one option."""
    words = list(JAIL)
    words[words.index(option) + 1] = value
    return words


# ---------------------------------------------------------------------------------------------------------------------
# Words


@pytest.mark.parametrize("caller", ["jstart", "jcreate", "bstart", "bcreate", "qcreate", "xcreate"])
def test_the_six_call_shapes(caller: str) -> None:
    """docs/cbsd.md#arguments: jails with -f, VMs without."""
    jail = caller.startswith("j")
    found = _environment(JAIL if jail else VM)
    assert (found.name, found.data, found.system, found.rcconf) == ("j1", DATA, SYSTEM, RCCONF)
    assert found.fstab == (FSTAB if jail else None)
    assert found.workdir == W


def test_glued_values() -> None:
    """A value may follow its option without a blank: -ddata."""
    found = _environment([option + value for option, value in zip(JAIL[::2], JAIL[1::2])])
    assert (found.name, found.data, found.fstab, found.rcconf, found.system) == ("j1", DATA, FSTAB, RCCONF, SYSTEM)


def test_defect_11_every_option_is_read_in_any_order() -> None:
    """Under bash the sample loses every second one."""
    pairs = list(zip(JAIL[::2], JAIL[1::2]))
    for turn in range(len(pairs)):
        argv = [word for pair in (*pairs[turn:], *pairs[:turn]) for word in pair]
        found = _environment(argv)
        assert (found.name, found.data, found.fstab, found.rcconf, found.system) == ("j1", DATA, FSTAB, RCCONF, SYSTEM)


def test_flags() -> None:
    found = parse([*JAIL, "-n", "-vv", "-v"])
    assert (found.dry_run, found.verbose, found.help) == (True, 3, False)
    found = parse(["-nvd", DATA, "-c/x/y.conf"])
    assert (found.dry_run, found.verbose, found.values) == (True, 1, {"-d": DATA, "-c": "/x/y.conf"})


def test_fault_107_getopt_rules() -> None:
    """``--`` ends the options; the last of a repeated one counts, and it is noted; help does not need the others."""
    assert _environment([*JAIL, "--"]).name == "j1"
    found = parse(["-j", "j0", *JAIL, "-j", "j1"])
    assert found.environment().name == "j1"
    assert found.repeated == ["-j", "-j"]
    assert parse(JAIL).repeated == []
    for word in ("-h", "--help", "-vh"):
        assert parse([word]).help
    text = environment.usage("env_start_nfs")
    assert text.startswith("usage: env_start_nfs -d data [-f fstab] -j jname")
    assert [line[2:4] for line in text.splitlines()[1:]] == ["-d", "-f", "-j", "-r", "-s", "-c", "-n", "-v", "-h"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-x", *JAIL], "cannot read the options: option -x not recognized; usage: "),
        (["--force", *JAIL], "cannot read the options: option --force not recognized; usage: "),
        (["--help=x"], "cannot read the options: option --help must not have an argument; usage: "),
        (["-n-", *JAIL], "cannot read the options: option -- not recognized; usage: "),
        (["-v-help"], "cannot read the options: option -- not recognized; usage: "),
        (["-vx"], "cannot read the options: option -x not recognized; usage: "),
        (["-\n"], "cannot read the options: option -\n not recognized; usage: "),
        (["-d", DATA, "junk", *JAIL[2:]], "cannot read 'junk': no option takes it"),
        ([*JAIL, "--", "junk"], "cannot read 'junk': no option takes it"),
        ([*JAIL, "-"], "cannot read '-': no option takes it"),
        ([*JAIL, ""], "cannot read '': no option takes it"),
    ],
)
def test_defect_12_what_is_unknown_or_left_over_is_refused(argv: list[str], text: str) -> None:
    assert _refusal(argv).startswith(text)


def test_defect_6_a_path_with_a_space_arrives_as_two_words() -> None:
    text = _refusal(["-d", "/x/my", "data", "-j", "j1", "-s", SYSTEM])
    assert text == (
        "cannot read 'data': no option takes it; a path with a space arrives as two words, CBSD cannot pass one"
    )
    assert _environment(["-d", "/x/my data", "-j", "j1", "-s", SYSTEM]).data == "/x/my data"


@pytest.mark.parametrize("option", ["-d", "-j", "-s"])
def test_defect_1_a_missing_option_is_refused(option: str) -> None:
    at = JAIL.index(option)
    text = _refusal(JAIL[:at] + JAIL[at + 2 :])
    assert text.startswith(f"cannot do without {option}; usage: -d data [-f fstab] -j jname")


def test_defect_1_no_words_at_all() -> None:
    assert _refusal([]).startswith("cannot do without -d and -j and -s; usage:")


@pytest.mark.parametrize("option", ["-d", "-f", "-j", "-r", "-s", "-c"])
def test_fault_106_missing_and_empty_values(option: str) -> None:
    assert _refusal([option]).startswith(f"cannot read the options: option {option} requires argument; usage: ")
    assert _refusal([option, ""]).startswith(f"cannot read {option}: its value is empty")


@pytest.mark.parametrize("option", ["-d", "-f", "-j", "-r", "-s", "-c"])
def test_fault_108_option_like_values(option: str) -> None:
    """``-d -j J ...`` is what CBSD makes of an empty data column (docs/cbsd.md#arguments)."""
    for argv in ([option, "-j", "j1"], [option, "--"], [option + "-x"]):
        assert "looks like an option" in _refusal(argv)


def test_the_configuration_file_is_absolute() -> None:
    """CBSD runs hooks in /var/empty, and they leave it before they open a file."""
    assert parse(["-c", "/x.conf"]).values == {"-c": "/x.conf"}
    assert _refusal(["-c", "x.conf"]) == "cannot use -c 'x.conf': the path is not absolute"


# ---------------------------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize("name", ["j1", "J", "0", "_", "@", "%", ":", "a-b", "a--", "x@y:z%1", "a" * 250])
def test_names(name: str) -> None:
    assert Environment(name, "/d", "/s").name == name


_BAD_NAMES = [
    "../x",
    "..",
    ".",
    "a.b",
    "a;b",
    "$x",
    "a b",
    " a",
    "a\n",
    "\na",
    "a\0b",
    "-a",
    "-",
    "a/b",
    "/",
    "*",
    "[a]",
]
_BAD_NAMES += ["a" * 251, "a" * 300, "\u0663", "\u00e9", "\udce9", "a\u00aa", "\u2460", "a+b", "a=b", "a,b", "~", "#"]


@pytest.mark.parametrize("name", _BAD_NAMES)
def test_defect_18_fault_105_other_names_are_refused(name: str) -> None:
    """Matched in full: a newline at the end, digits of other scripts, an escape from the export root."""
    with pytest.raises(UsageError, match=r"^cannot use -j "):
        Environment(name, "/d", "/s")
    assert _refusal(["-d", DATA, f"-j{name}", "-s", SYSTEM])


def test_fault_105_a_long_name_is_cut_in_the_message() -> None:
    assert len(_refusal(["-d", DATA, "-j", "a" * 5000, "-s", SYSTEM])) < 100


# ---------------------------------------------------------------------------------------------------------------------
# Directories


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("/x/y/", "/x/y"),
        ("//x///y//", "/x/y"),
        ("/x/./y/.", "/x/y"),
        ("/x/...", "/x/..."),
        ("/x/a b", "/x/a b"),
        ("/x/\udce9\u043f", "/x/\udce9\u043f"),
        ("/x/~", "/x/~"),
        ("/" + "/".join(["a" * 127] * 8)[:1022], "/" + "/".join(["a" * 127] * 8)[:1022]),
    ],
)
def test_directories_are_normalized(given: str, found: str) -> None:
    """A trailing slash must not hide what the mount table calls it (docs/cbsd.md#defects, 5)."""
    assert _environment(_with("-d", given)).data == found


@pytest.mark.parametrize("option", ["-d", "-s", "-f", "-r"])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("x/y", "'x/y': the path is not absolute"),
        (".", "'.': the path is not absolute"),
        ("~/x", "'~/x': the path is not absolute"),
        ("/x/../y", "'/x/../y': the path has a .. in it"),
        ("/..", "'/..': the path has a .. in it"),
        ("/", "'/': that is the root directory"),
        ("//", "'//': that is the root directory"),
        ("/./", "'/./': that is the root directory"),
        ("/x\n", "'/x\\n': the path has a control character"),
        ("/x\0y", "'/x\\x00y': the path has a control character"),
        ("/\x7f", "'/\\x7f': the path has a control character"),
        ("/" + "a" * 1023, "/" + "a" * 39 + "...: a mount point has at most 1023 bytes"),
        ("/" + "\u043f" * 511 + "aa", "/" + "\u043f" * 39 + "...: a mount point has at most 1023 bytes"),
        ("/usr", "/usr: it "),
        ("/etc", "/etc: it is a directory of this host"),
    ],
)
def test_directories_that_are_refused(option: str, path: str, text: str) -> None:
    assert _refusal(_with(option, path)).startswith(f"cannot use {option} {text}")


@pytest.mark.parametrize("option", ["-d", "-s", "-f", "-r"])
@pytest.mark.parametrize("path", [W, f"{W}/", f"{W}/.", "/usr", "/usr/", "//usr/./jails"])
def test_defect_1_workdir_and_what_holds_it(option: str, path: str) -> None:
    text = _refusal(_with(option, path))
    if option != "-s":
        assert text.endswith(f"it holds the CBSD workdir {W}")


@pytest.mark.parametrize("option", ["-d", "-s", "-f", "-r"])
@pytest.mark.parametrize("name", ["jails", "jails-data", "jails-system", "jails-fstab", "jails-rcconf"])
def test_defect_1_directories_of_all_environments(option: str, name: str) -> None:
    """A mount there hides the others', and shows this one the export of all."""
    if (option, name) == ("-r", "jails-rcconf"):
        return
    for path in (f"{W}/{name}", f"{W}/{name}/", f"/elsewhere/{name}"):
        assert "it holds the directories of all jails and VMs" in _refusal(_with(option, path))


@pytest.mark.parametrize("workdir", ["/jails", "/jails-data", "/x/jails-system", "/x/jails-fstab"])
@pytest.mark.parametrize("name", ["j1", "jails"])
def test_a_workdir_can_be_called_like_one_of_its_directories(workdir: str, name: str) -> None:
    assert in_workdir(name, workdir).workdir == workdir
    for shared in ("jails", "jails-data", "jails-fstab"):
        with pytest.raises(UsageError, match="the directories of all jails and VMs"):
            in_workdir(name, workdir, f"{workdir}/{shared}")


@pytest.mark.parametrize("name", ["jails", "jails-data", "jails-system", "jails-fstab", "jails-rcconf"])
def test_an_environment_can_be_called_like_one_of_them(name: str) -> None:
    found = in_workdir(name, W)
    assert (found.data, found.system) == (f"{W}/jails-data/{name}-data", f"{W}/jails-system/{name}")


@pytest.mark.parametrize("path", [f"{W}/etc", f"{W}/etc/defaults", f"{W}/var/db", f"{W}/modules", f"{W}/var"])
def test_what_cbsd_lives_from(path: str) -> None:
    assert _refusal(_with("-d", path)) == f"cannot use -d {path}: it belongs to CBSD itself"
    assert _environment(_with("-d", f"{W}/etcetera")).data == f"{W}/etcetera"


def test_a_name_that_was_empty_when_the_profile_was_read() -> None:
    """``bcreate jconf=FILE`` without a name in it (docs/cbsd.md#arguments)."""
    text = _refusal(_with("-d", f"{W}/jails-data/-data"))
    assert text == f"cannot use -d {W}/jails-data/-data: it was made from an empty name; give CBSD a jname"


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("-s", f"{W}/jails-system/j2"),
        ("-f", f"{W}/jails-fstab/j2"),
        ("-d", f"{W}/jails-system/j2"),
        ("-d", f"{W}/jails-data/j2-data"),
        ("-d", f"{W}/jails-data/j11-data"),
    ],
)
def test_directories_of_another_environment(option: str, path: str) -> None:
    assert _refusal(_with(option, path)) == f"cannot use {option} {path}: it does not belong to j1"


@pytest.mark.parametrize("path", ["/zroot/vm/j1", f"{W}/jails-data/j1", f"{W}/vm/j1", f"{W}/jails-data/disks/j2-data"])
def test_data_can_be_elsewhere(path: str) -> None:
    assert _environment(_with("-d", path)).data == path


def test_equal_directories() -> None:
    assert _refusal(_with("-f", DATA)) == f"cannot use -f {DATA}: it is also -d"
    assert _refusal(["-d", SYSTEM + "/", "-j", "j1", "-s", SYSTEM]) == f"cannot use -s {SYSTEM}: it is also -d"


def test_workdir_is_known_only_from_its_own_layout() -> None:
    for system in ("/x/system/j1", "/jails-system/j1", "/x/jails-data/j1"):
        assert Environment("j1", "/d", system).workdir is None
    assert Environment("j1", "/d", "/x//jails-system/j1/").workdir == "/x"


def test_below() -> None:
    assert paths.is_below("/a/b", "/a")
    assert paths.is_below("/a", "/a")
    assert paths.is_below("/a", "/")
    assert not paths.is_below("/ab", "/a")


# ---------------------------------------------------------------------------------------------------------------------
# Variables

# Of a hook in master_poststop.d, baserw=1 (docs/cbsd.md#directory-hooks).
_LIVE = {
    "HOME": "/root",
    "PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin",
    "baserw": "1",
    "data": "/usr/jails/jails-data/jail1-data",
    "emulator": "jail",
    "jid": "1",
    "jname": "jail1",
    "mount_fstab": "/usr/jails/jails-fstab/jail1/fstab",
    "path": "/usr/jails/jails-data/jail1-data",
    "rcconf": "/usr/jails/jails-rcconf/rc.conf_jail1",
    "status": "1",
    "workdir": "/usr/jails",
}


def test_a_stop_hook_names_the_environment_by_variables() -> None:
    found = from_variables(_LIVE)
    assert (found.name, found.workdir) == ("jail1", W)
    assert (found.data, found.system) == (f"{W}/jails-data/jail1-data", f"{W}/jails-system/jail1")
    assert (found.fstab, found.rcconf) == (f"{W}/jails-fstab/jail1", RCCONF)
    assert from_variables({**_LIVE, "workdir": "/usr/jails/"}).workdir == W
    assert from_variables({**_LIVE, "data": "/vm/jail1"}).data == "/vm/jail1"


@pytest.mark.parametrize("name", ["jname", "data", "workdir"])
def test_a_variable_is_missing_or_empty(name: str) -> None:
    for variables in ({**_LIVE, name: ""}, {key: value for key, value in _LIVE.items() if key != name}):
        with pytest.raises(UsageError, match=r"^cannot tell which jail or VM is meant: no arguments; usage:"):
            from_variables(variables)


@pytest.mark.parametrize(
    "wrong",
    [
        {"jname": "../../etc"},
        {"jname": "jail1\n"},
        {"workdir": "usr/jails"},
        {"workdir": "/usr/../jails"},
        {"workdir": "/usr/jails\n"},
        {"data": "jails-data/jail1-data"},
        {"data": "/usr/jails"},
        {"data": "/usr/jails/jails-data"},
        {"data": "/usr/jails/jails-data/jail2-data"},
        {"data": "/usr/jails/jails-system/jail1"},
    ],
)
def test_defect_15_variables_are_checked_like_arguments(wrong: dict[str, str]) -> None:
    """``sudo -E`` hands over whatever the caller had."""
    with pytest.raises(UsageError):
        from_variables({**_LIVE, **wrong})


def test_defect_15_the_environment_is_not_asked_for_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**_LIVE, "NFS_SERVER": "evil", "fstab": "/evil", "POSIXLY_CORRECT": "1"}.items():
        monkeypatch.setenv(name, value)
    found = _environment(VM)
    assert (found.name, found.data, found.fstab) == ("j1", DATA, None)


# ---------------------------------------------------------------------------------------------------------------------
# Anything

_WORDS = st.one_of(
    st.sampled_from(
        [*JAIL, "-h", "-n", "-v", "--", "-", "", "-c", "/etc/x.conf", f"-d{DATA}", "-jj1", "--help", W, "/"]
    ),
    st.text(alphabet="-dfjrsc/.ab\n \udce9\u0663%", max_size=6),
    st.binary(max_size=8).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)


@settings(deadline=None)
@given(st.lists(_WORDS, max_size=14))
@example([*JAIL, "-d", "/" + "a" * 5000])
def test_any_words_end_in_an_environment_or_in_usage(argv: list[str]) -> None:
    try:
        found = _environment(argv)
    except UsageError:
        return
    for path in (found.data, found.system, found.fstab, found.rcconf):
        assert path is None or (path.startswith("/") and os.path.normpath(path) == path and path not in ("/", W))


@settings(deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(("jname", "data", "workdir"), _WORDS)))
def test_any_variables_end_in_an_environment_or_in_usage(variables: dict[str, str]) -> None:
    with contextlib.suppress(UsageError):
        from_variables(variables)
