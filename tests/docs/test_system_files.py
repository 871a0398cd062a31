"""What makes a guest of the system of it: manual pages, completions, rc.d and periodic scripts, the port."""

from __future__ import annotations

import configparser
import graphlib
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from verbs import verbs

from envstart import __version__, environment
from envstart.cli import main
from envstart.engine import registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "man").iterdir())
RC = ROOT / "freebsd" / "rc.d" / "envstart"
PERIODIC = ROOT / "freebsd" / "periodic" / "490.status-envstart"
PORT = ROOT / "port"
# Seconds within which a shell has long answered.
PATIENCE = 60.0


def program(name: str) -> str:
    """Where a program is that .ci/run installs."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})}
    return subprocess.run(
        [str(word) for word in argv], env=environ, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE
    )


def is_accepted(words: Sequence[str]) -> None:
    """Let the tool read this command line; UsageError if it cannot."""
    main.parser().parse_args(words)


# Manual pages.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_has_no_complaint(page: Path) -> None:
    ended = run(program("mandoc"), "-T", "lint", "-W", "warning", page)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_the_sections_that_are_looked_for(page: Path) -> None:
    text = page.read_text()
    wanted = ["NAME", "DESCRIPTION", "FILES", "EXAMPLES", "DIAGNOSTICS", "SEE ALSO"]
    wanted += ["SYNOPSIS", "EXIT STATUS"] if page.suffix == ".8" else []
    assert set(wanted) <= set(re.findall(r"^\.Sh (.*)", text, re.M))


def flags(page: Path) -> set[str]:
    """Return the options that the macros of a page name."""
    found: set[str] = set()
    for line in page.read_text().splitlines():
        for word in re.findall(r"\bFl (\S+)", line) if line.startswith(".") else []:
            found |= {f"-{word}"} if word.startswith("-") else {f"-{letter}" for letter in word}
    return found


def test_the_tools_page_names_the_options_that_there_are_and_no_others() -> None:
    known = {spelling for verb in verbs() for action in verb.options for spelling in action.option_strings}
    assert flags(ROOT / "man" / "envstart.8") == {*known, "--version"}


def test_the_tools_page_names_the_verbs_that_there_are_and_no_others() -> None:
    text = (ROOT / "man" / "envstart.8").read_text()
    assert [verb.name for verb in verbs()] == re.findall(r"^\.It Cm (.*)", text, re.M)
    named = {re.split(" Ar | ,", name)[0] for name in re.findall(r"^\.Cm (.*)", text, re.M)}
    assert named <= {verb.name for verb in verbs()}


def test_the_hooks_page_names_their_options() -> None:
    assert flags(ROOT / "man" / "env_start.8") == {*environment._OPTIONS, *environment._FLAGS}


def test_the_configurations_page_has_every_key() -> None:
    keys = {option.name for name in registry.NAMES for option in registry.backend(name).OPTIONS}
    assert set(re.findall(r"^\.It Va (.*)", (ROOT / "man" / "envstart.conf.5").read_text(), re.M)) == keys


def examples() -> list[str]:
    """Return the command lines of the tool that texts for people show."""
    texts = [*PAGES, PORT / "files" / "pkg-message.in", *(ROOT / "freebsd" / "examples").iterdir()]
    text = "\n".join([*(path.read_text() for path in texts), main.EPILOG])
    lines = re.findall(r"(?:^\.Dl # |^  |/usr/local/sbin/|by: )(envstart .*)", text, re.M)
    return [re.split(r"  | > ", line)[0].replace("BACKEND", "nfs") for line in lines]


def test_examples_are_found() -> None:
    assert len(examples()) > 8


@pytest.mark.parametrize("line", examples())
def test_an_example_can_be_run(line: str) -> None:
    is_accepted(shlex.split(line)[1:])


# Scripts.


@pytest.mark.parametrize("script", [RC, PERIODIC, *(ROOT / "hooks").iterdir()], ids=lambda path: path.name)
def test_shells_can_read_a_script(script: Path) -> None:
    for shell in ("sh", "dash"):
        if shutil.which(shell):
            ended = run(shell, "-n", script)
            assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("script", [RC, PERIODIC, ROOT / "completions" / "envstart.bash"], ids=lambda path: path.name)
def test_shellcheck_has_no_complaint(script: Path) -> None:
    # 1091: what is read is not there; 2034: rc.subr(8) uses the variables.
    ended = run(program("shellcheck"), "-e", "SC1091,SC2034", script)
    assert ended.returncode == 0, ended.stdout


class Scripts:
    """An installation whose envstart writes down its arguments, and ends as the test wants."""

    def __init__(self, top: Path) -> None:
        self.top = top
        ended = run("make", "install", f"PREFIX={top}/local", "SYSTEM=FreeBSD")
        assert ended.returncode == 0, ended.stderr
        tool = top / "local" / "sbin" / "envstart"
        tool.unlink()
        tool.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done >> {top}/called\nexit "${{STATUS:-0}}"\n')
        tool.chmod(0o755)

    def called(self) -> list[str]:
        """Return the arguments that envstart has had, which must be such as it takes."""
        path = self.top / "called"
        words = path.read_text().splitlines() if path.exists() else []
        if words:
            is_accepted(words)
        return words

    def service(self, verb: str, **variables: str) -> int:
        """Run the script as rc(8) or rc.shutdown(8) does."""
        subr = self.top / "rc.subr"
        subr.write_text(RC_SUBR)
        script = self.top / "envstart"
        script.write_text((self.top / "local/etc/rc.d/envstart").read_text().replace("/etc/rc.subr", str(subr)))
        return run("sh", script, verb, env=variables).returncode

    def periodic(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return run("sh", self.top / "local/etc/periodic/daily/490.status-envstart", env=variables)


# What rc.subr(8) makes of a script that has a command of its own for each verb.
RC_SUBR = """
load_rc_config() { :; }
run_rc_command() {
	verb=$1; verb=${verb#fast}; verb=${verb#one}
	case " start stop restart rcvar enable disable delete enabled describe extracommands $extra_commands " in
	*" $verb "*) ;;
	*) exit 1 ;;
	esac
	eval "enabled=\\$$rcvar"
	case $verb:$enabled in status:* | *:[Yy][Ee][Ss]) ;; *) exit 0 ;; esac
	eval "eval \\"\\$${verb}_cmd\\""
}
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_at_shutdown_what_is_left_mounted_is_taken_away(scripts: Scripts) -> None:
    assert scripts.service("faststop", envstart_enable="YES", cbsd_workdir="/usr/jails") == 0
    assert scripts.called() == ["orphans", "--stop", "--grace", "0", "--timeout", "60"]


def test_the_service_hands_on_the_workdirs_and_the_status(scripts: Scripts) -> None:
    assert scripts.service("stop", envstart_enable="YES", envstart_flags="-w /a -w /b", STATUS="75") == 75
    assert scripts.called() == ["orphans", "--stop", "--grace", "0", "--timeout", "60", "-w", "/a", "-w", "/b"]


@pytest.mark.parametrize("verb", ["status", "check"])
def test_the_service_tells_what_there_is(scripts: Scripts, verb: str) -> None:
    assert scripts.service(verb, envstart_enable="YES", cbsd_workdir="/usr/jails", STATUS="2") == 2
    assert scripts.called() == [verb]


@pytest.mark.parametrize("verb", ["onestatus", "onecheck", "onestop", "faststop", "start"])
def test_case_c22_a_host_without_cbsd_has_nothing_to_be_looked_at(scripts: Scripts, verb: str) -> None:
    assert scripts.service(verb, envstart_enable="YES", STATUS="64") == 0
    assert scripts.called() == []


def test_case_c22_periodic_on_a_host_without_cbsd(scripts: Scripts) -> None:
    ended = scripts.periodic(daily_status_envstart_enable="YES", STATUS="64")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "CBSD is not set up on this host" in ended.stdout
    assert scripts.called() == []


@pytest.mark.parametrize(("verb", "enabled"), [("faststart", "YES"), ("faststop", "NO"), ("faststop", "")])
def test_the_service_does_nothing_at_boot_and_nothing_unasked(scripts: Scripts, verb: str, enabled: str) -> None:
    assert scripts.service(verb, **({"envstart_enable": enabled} if enabled else {})) == 0
    assert scripts.called() == []


def test_the_service_stops_after_its_users_and_before_what_it_uses() -> None:
    # REQUIRE and BEFORE of FreeBSD 14's and of CBSD's own scripts; rc.shutdown(8) goes the other way round.
    after = {
        "iscsictl": {"NETWORKING"},
        "hastd": {"NETWORKING"},
        "DAEMON": {"NETWORKING", "iscsictl", "hastd"},
        "LOGIN": {"DAEMON"},
        "jail": {"LOGIN", "FILESYSTEMS"},
        "cbsdd": {"LOGIN", "FILESYSTEMS"},
    }
    keywords = dict(re.findall(r"^# ([A-Z]+): (.*)", RC.read_text(), re.M))
    after["envstart"] = set(keywords["REQUIRE"].split())
    for script in keywords["BEFORE"].split():
        after[script].add("envstart")
    order = list(graphlib.TopologicalSorter(after).static_order())
    ours = order.index("envstart")
    assert max(order.index(name) for name in ("iscsictl", "hastd", "FILESYSTEMS")) < ours
    assert ours < min(order.index(name) for name in ("cbsdd", "jail"))
    assert "shutdown" in keywords["KEYWORD"].split()


@pytest.mark.parametrize(
    ("of_check", "wanted"), [(0, 0), (1, 1), (2, 3), (3, 3), (64, 2), (78, 2), (70, 3), (127, 3), (143, 3)]
)
def test_periodic_is_told_what_must_not_be_masked(scripts: Scripts, of_check: int, wanted: int) -> None:
    ended = scripts.periodic(
        daily_status_envstart_enable="YES", daily_status_envstart_flags="-w /a -w /b", STATUS=str(of_check)
    )
    assert (ended.returncode, ended.stderr) == (wanted, "")
    assert "environments" in ended.stdout
    assert scripts.called() == ["check", "-w", "/a", "-w", "/b"]


@pytest.mark.parametrize("enabled", ["NO", "no", ""])
def test_periodic_is_off_unless_it_is_asked_for(scripts: Scripts, enabled: str) -> None:
    ended = scripts.periodic(daily_status_envstart_enable=enabled)
    assert (ended.returncode, ended.stdout, scripts.called()) == (0, "", [])


# Installation.


def installed(top: Path) -> set[str]:
    """Return the files below a directory."""
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or path.is_file()}


# What bsd.port.mk does with the variables that the port sets.
BSD_PORT_MK = """
PREFIX = /usr/local
PYTHON_PKGNAMEPREFIX = py311-
PY_FLAVOR = py311
do-install:
	cd ${WRKSRC} && ${MAKE} ${MAKE_ARGS} DESTDIR=${STAGEDIR} install
"""


def test_the_port_installs_what_its_list_says(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    (tmp_path / "bsd.port.mk").write_text(BSD_PORT_MK)
    (tmp_path / "sys.mk").touch()
    ended = run(
        *(program("bmake"), "-m", tmp_path, "-C", PORT),
        *(f"STAGEDIR={stage}", f"WRKSRC={ROOT}", f"PYTHON_CMD={sys.executable}", "do-install"),
    )
    assert ended.returncode == 0, ended.stderr
    number = f"{sys.version_info[0]}{sys.version_info[1]}"
    listed = (PORT / "pkg-plist").read_text().replace("%%PYTHON_SUFFIX%%", number).splitlines()
    assert installed(stage) == {f"usr/local/{name.removesuffix('.gz')}" for name in listed}
    for path in filter(Path.is_file, stage.rglob("*")):
        assert str(stage).encode() not in path.read_bytes(), f"{path} names the stage"


def test_gnu_make_installs_the_same(tmp_path: Path) -> None:
    for make in ("bmake", "gmake"):
        ended = run(program(make), "install", f"DESTDIR={tmp_path / make}", f"PYTHON={sys.executable}")
        assert ended.returncode == 0, ended.stderr
    assert installed(tmp_path / "bmake") == installed(tmp_path / "gmake")


def test_what_is_installed_works(tmp_path: Path) -> None:
    ended = run("make", "install", f"PREFIX={tmp_path}", f"PYTHON={sys.executable}", "SYSTEM=FreeBSD")
    assert ended.returncode == 0, ended.stderr
    assert run(tmp_path / "sbin/envstart", "--version").stdout == f"envstart {__version__}\n"
    sample = run(tmp_path / "sbin/envstart", "config", "sample", "nfs", cwd=tmp_path).stdout
    assert sample == (tmp_path / "etc/envstart/env_start_nfs.conf.sample").read_text()
    assert "-d" in run(tmp_path / "libexec/envstart/hooks/env_start_nfs", "-h").stdout
    assert run(tmp_path / "libexec/envstart/hooks/env_start_nfs").returncode == os.EX_USAGE
    # The Python that was named, and no other one that may lack the libraries.
    assert f"\nown={sys.executable}\n" in (tmp_path / "libexec/envstart/hooks/run-hook").read_text()
    for path in (tmp_path / "etc").rglob("*"):
        assert path.is_dir() or "/usr/local" not in path.read_text().replace("/usr/local/etc/envstart", "")


def test_case_c9_prefix_is_where_the_configuration_is_looked_for(tmp_path: Path) -> None:
    """Found by every program, be it called by a link or from elsewhere; the manuals and scripts say the same."""
    ended = run("make", "install", f"PREFIX={tmp_path}", f"PYTHON={sys.executable}", "SYSTEM=FreeBSD")
    assert ended.returncode == 0, ended.stderr
    own = tmp_path / "etc/envstart"
    tool, words = tmp_path / "sbin/envstart", ("nullfs", "-j", "x", "-d", "/x/data", "-s", "/x/system")
    refused = run(tool, "config", "check", "nfs", *words[1:])
    assert refused.returncode == os.EX_CONFIG
    assert f"cannot find env_start_nfs.conf in {own}, /root/etc" in refused.stderr
    (own / "env_start_nullfs.conf").write_text('NULLFS_ROOT_DIR="/from/prefix"\n')
    (own / "env_start_nullfs.conf").chmod(0o644)
    shown = run(tool, "config", "show", *words)
    assert f"NULLFS_ROOT_DIR=/from/prefix  # {own}/env_start_nullfs.conf:1" in shown.stdout.replace("'", "")
    for page in ("man8/env_start.8", "man5/envstart.conf.5"):
        text = (tmp_path / "share/man" / page).read_text()
        assert (str(own) in text, "/usr/local/etc/envstart" in text) == (True, False)


def test_case_c9_only_what_is_ours_moves_with_the_prefix(tmp_path: Path) -> None:
    """syslogd(8) and newsyslog(8) read /usr/local/etc, wherever envstart is."""
    assert run("make", "install", f"PREFIX={tmp_path}", "SYSTEM=FreeBSD").returncode == 0
    examples = tmp_path / "share/examples/envstart"
    assert "/usr/local/etc/syslog.d/" in (examples / "syslog.conf").read_text()
    assert f"{tmp_path}/sbin/envstart check" in (examples / "crontab").read_text()
    assert "/usr/local/" not in (examples / "crontab").read_text()


def test_case_c9_an_installed_hook_without_a_python_says_how_to_install_it_anew(tmp_path: Path) -> None:
    assert run("make", "install", f"PREFIX={tmp_path}", "SYSTEM=FreeBSD").returncode == 0
    script = tmp_path / "libexec/envstart/hooks/run-hook"
    script.write_text(
        script.read_text().replace("/usr/local/bin/python", "/nowhere/python").replace("/usr/bin/", "/no/")
    )
    ended = run(tmp_path / "libexec/envstart/hooks/env_start_nfs")
    assert ended.returncode == os.EX_UNAVAILABLE
    assert ended.stderr.endswith(f"install it anew: make install PREFIX={tmp_path} PYTHON=...\n")


def test_what_is_installed_is_in_the_sdist() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ninstall:")[2].partition("\n\n")[0]
    held = {path.name for path in ROOT.iterdir() if path.is_dir() and re.search(rf"\b{path.name}/", recipe)}
    assert {"hooks", "conf", "freebsd", "man", "completions"} <= held
    manifest = (ROOT / "MANIFEST.in").read_text()
    assert held - {"envstart"} <= set(re.findall(r"^graft (.*)", manifest, re.M))


# The port, as portlint(1) would look at it.


def port_variables() -> dict[str, str]:
    text = (PORT / "Makefile").read_text().replace("\\\n", " ")
    return {name: value.strip() for name, value in re.findall(r"^(\w+)=\t*(.*)$", text, re.M)}


def test_the_port_has_its_variables_in_order() -> None:
    # Porter's Handbook, "Order of Variables in Port Makefiles".
    order = (
        *("PORTNAME", "DISTVERSION", "CATEGORIES", "MASTER_SITES", "MAINTAINER", "COMMENT", "WWW"),
        *("LICENSE", "LICENSE_FILE", "RUN_DEPENDS", "USES", "NO_ARCH", "NO_BUILD", "MAKE_ARGS", "SUB_FILES"),
    )
    variables = port_variables()
    assert tuple(variables) == order
    text = (PORT / "Makefile").read_text()
    assert text.endswith("\n\n.include <bsd.port.mk>\n")
    assert "/usr/local" not in text
    assert not re.search(r"[ \t]$", text, re.M)
    assert len(variables["COMMENT"]) <= 70
    assert not re.match(r"(A|An|The) |.*\.$", variables["COMMENT"])


def test_the_port_agrees_with_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    variables = port_variables()
    assert variables["PORTNAME"] == setup["metadata"]["name"]
    assert variables["DISTVERSION"] == __version__
    assert variables["USES"] == f"python:{setup['options']['python_requires'].removeprefix('>=')}+"
    wanted = re.findall(r"\$\{PYTHON_PKGNAMEPREFIX\}(\S+):\w+/py-(\w+)@\$\{PY_FLAVOR\}", variables["RUN_DEPENDS"])
    # The last one is of Python itself, and FreeBSD's Python comes without it.
    assert [name for name, _ in wanted] == [*setup["options"]["install_requires"].split(), "sqlite3>0"]
    assert all(re.split("[>=]", name)[0] == port for name, port in wanted)


def test_the_ports_texts_fit_their_places() -> None:
    described = (PORT / "pkg-descr").read_text()
    assert max(map(len, described.splitlines())) <= 80
    assert not re.search(r"[ \t]$", described, re.M)
    listed = (PORT / "pkg-plist").read_text().splitlines()
    assert listed == sorted(set(listed))
    assert not [name for name in listed if name.startswith(("/", "usr/", ".", "@"))]


def test_the_ports_message_is_told_once_and_after_upgrades() -> None:
    text = (PORT / "files" / "pkg-message.in").read_text()
    form = r"\{ type: (\w+)\n  message: <<EOM\n(.*?)\nEOM\n\}"
    assert re.fullmatch(rf"\[\n{form},\n{form}\n\]\n", text, re.S)
    assert [kind for kind, _ in re.findall(form, text, re.S)] == ["install", "upgrade"]
    assert "/usr/local" not in text
    named = re.findall(r"%%PREFIX%%/([^\s,]*[^\s,.])", text)
    listed = (PORT / "pkg-plist").read_text()
    assert named
    assert all(f"{path}/" in listed or f"{path}\n" in listed for path in named), named


# Completions.


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    for name in ("jail1", "jail2", "web"):
        (tmp_path / "W" / "jails-system" / name).mkdir(parents=True)
    return tmp_path / "W"


def bash(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    script = 'set -u; . "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _envstart; printf "%s\\n" "${COMPREPLY[@]}"'
    ended = run(program("bash"), "-c", script, ROOT / "completions" / "envstart.bash", "envstart", *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


def test_bash_offers_verbs_options_and_backends() -> None:
    assert {verb.name.split()[0] for verb in verbs()} <= set(bash(""))
    assert bash("rec") == ["recover"]
    assert bash("config", "s") == ["show", "sample"]
    for verb in verbs():
        offered = bash(*verb.name.split(), "-")
        assert offered == [spelling for action in verb.options for spelling in action.option_strings]
    assert set(registry.NAMES) <= set(bash("plan", ""))
    assert set(registry.NAMES) <= set(bash("config", "sample", ""))
    assert set(registry.NAMES) <= set(bash("status", ""))


def test_bash_offers_environments_and_files(workdir: Path) -> None:
    assert bash("plan", "nfs", "-w", str(workdir), "-j", "jail") == ["jail1", "jail2"]
    assert bash("check", "--workdir", str(workdir), "w") == ["web"]
    assert bash("plan", "nfs", "-w", f"{workdir.parent}/") == [str(workdir)]
    (workdir / "list").touch()
    assert bash("plan", "nfs", "-l", f"{workdir}/l") == [f"{workdir}/list"]


def test_bash_does_not_look_into_directories_that_may_be_dead(workdir: Path) -> None:
    assert bash("plan", "nfs", "-d", f"{workdir}/") == []


def answered(argv: Sequence[str], env: Mapping[str, str], keys: str) -> str:
    """Return what a shell on a terminal writes after GOT, when it has been asked with these keys."""
    shell, ours = pty.fork()
    if not shell:
        os.chdir(ROOT)
        os.execve(argv[0], list(argv), {"PATH": os.environ["PATH"], "TERM": "vt100", **env})
    text, asked, until = "", False, time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until and not re.search(r"GOT:(.*):", text):
            if not asked and "ready>" in text:
                os.write(ours, keys.encode())
                asked = True
            if select.select([ours], [], [], 1)[0]:
                text += os.read(ours, 65536).decode(errors="replace")
    finally:
        os.kill(shell, signal.SIGKILL)
        os.close(ours)
        os.waitpid(shell, 0)
    found = re.search(r"GOT:(.*):", text)
    assert found, text
    return found[1]


def test_zsh_completes(tmp_path: Path, workdir: Path) -> None:
    (tmp_path / ".zshrc").write_text(
        f"fpath=({ROOT}/completions $fpath); autoload -Uz compinit; compinit -u -D\n"
        "envstart() { print -r -- GOT:$*: }; PS1='ready> '\n"
    )
    shell = (program("zsh"), "-i")
    got = answered(shell, {"ZDOTDIR": str(tmp_path)}, "envstart conf\tsam\thas\t\n")
    assert got.split() == ["config", "sample", "hast"]
    got = answered(shell, {"ZDOTDIR": str(tmp_path)}, f"envstart plan nul\t--st\t-w {workdir} -j w\t\n")
    assert got.split() == ["plan", "nullfs", "--stop", "-w", str(workdir), "-j", "web"]


def test_tcsh_completes(tmp_path: Path) -> None:
    (tmp_path / ".tcshrc").write_text(
        f"source {ROOT}/completions/envstart.tcsh\nalias envstart 'echo GOT:\\!* :'\nset prompt='ready> '\n"
    )
    got = answered((program("tcsh"), "-i"), {"HOME": str(tmp_path)}, "envstart reco\tisc\t--pre\t\n")
    assert got.split() == ["recover", "iscsi", "--preempt"]
