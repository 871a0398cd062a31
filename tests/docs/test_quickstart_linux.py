"""docs/quickstart-linux.md: its lines do what they say, as far as they need no server and no other machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envstart import lifecycle
from envstart.cli import main
from envstart.config import list_file
from envstart.engine import registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "quickstart-linux.md").read_text()
# What a service manager does with a unit that has instances, for a host that has none running.
SYSTEMCTL = r"""#!/bin/sh
case "$*" in
"enable --now envstart@"*) key=ExecStart unit=$3 ;;
"disable --now envstart@"*) key=ExecStop unit=$3 ;;
*) exit 0 ;;
esac
instance=${unit#*@} instance=${instance%.service}
eval "$(sed -n "s/^$key=//p" "/usr/local/lib/systemd/system/envstart@.service" | sed "s/%i/$instance/g")"
"""
# Everything that the page writes to is this run's own.
NAMESPACE = """set -e
mkdir "$1/fs"; mount -t tmpfs tmpfs "$1/fs"
for top in usr/local etc; do
	mkdir -p "$1/fs/$top.upper" "$1/fs/$top.work"
	mount -t overlay overlay -o "lowerdir=/$top,upperdir=$1/fs/$top.upper,workdir=$1/fs/$top.work" "/$top"
done
mkdir -p /srv /var/db
for top in srv run var/db; do mount -t tmpfs tmpfs "/$top"; done
exec sh -ex "$1/lines"
"""


def lines(title: str) -> str:
    """Return the lines to paste of a section."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section is not None
    return "".join(f"{line}\n" for line in re.findall(r"^    (.*)", section[1], re.M))


def commands() -> list[str]:
    return re.findall(r"^    (envstart .*)", PAGE, re.M)


def test_commands_are_found() -> None:
    assert len(commands()) > 8


@pytest.mark.parametrize("line", commands())
def test_the_tool_takes_a_line(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words != ["--version"]:
        main.parser().parse_args(words)


def written() -> dict[str, str]:
    """Return the files that the page writes, by their paths."""
    return dict(re.findall(r"^    cat > (\S+) <<'EOF'\n(.*?)^    EOF\n", PAGE, re.M | re.S))


@pytest.mark.parametrize("backend", ["nullfs", "nfs"])
def test_what_is_listed_can_be_planned(tmp_path: Path, backend: str) -> None:
    files = written()
    paths = {}
    for name in (f"{backend}.list", f"env_start_{backend}.conf"):
        paths[name] = tmp_path / name
        paths[name].write_text(re.sub("^    ", "", files[f"/usr/local/etc/envstart/{name}"], flags=re.M))
        paths[name].chmod(0o644)
    (environment,) = list_file.environments(str(paths[f"{backend}.list"]))
    plan = lifecycle.load(backend, environment, str(paths[f"env_start_{backend}.conf"]))
    assert plan.config.notes == ()
    assert len(plan.steps) == 2
    # The page makes what a start would not make: it knows no workdir.
    for directory in environment.directories:
        assert f"mkdir -p {os.path.dirname(directory)} " in PAGE.replace("\n", " ")


def test_the_backends_of_linux_are_named() -> None:
    assert {f"`{name}`" for name in registry.NAMES} <= set(re.findall("`[a-z]+`", PAGE))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\benvstart[-a-z]*@?[a-z]*\.(?:service|timer)", PAGE))))
def test_a_unit_that_is_named_exists(name: str) -> None:
    assert (ROOT / "linux" / "systemd" / re.sub("@[a-z]+", "@", name)).exists()


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts, as root of a Linux")
def test_its_lines_bring_the_directories_of_a_container(tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("apt-get", "#!/bin/sh\n"), ("systemd-tmpfiles", "#!/bin/sh\n")):
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    # They are mounted side by side, in any order.
    shows = (
        "shown=$(grep -o ' /srv/web1/[a-z]* ' /proc/self/mountinfo) && echo \"$shown\" | sort || echo NOTHING MOUNTED\n"
    )
    script = [lines("Install"), lines("A first container, without a server"), shows, lines("Day to day"), shows]
    script += [lines("Remove it"), shows, "find /usr/local -path '*envstart*' ! -type d | sed 's/^/KEPT /'\n"]
    (tmp_path / "lines").write_text("".join(script).replace("/usr/bin/python3", sys.executable))
    ended = subprocess.run(
        [shutil.which("unshare") or "unshare", "-m", "--propagation", "private", "sh", "-c", NAMESPACE, "sh", tmp_path],
        cwd=ROOT,
        env={"PATH": f"{stubs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.splitlines()
    mounted = [" /srv/web1/data ", " /srv/web1/system "]
    assert "hello" in told
    assert [line for line in told if line in (*mounted, "NOTHING MOUNTED")] == [*mounted, *mounted, "NOTHING MOUNTED"]
    kept = {f"KEPT /usr/local/etc/envstart/{name}" for name in ("nullfs.list", "env_start_nullfs.conf")}
    assert {line for line in told if line.startswith("KEPT ")} == kept
