"""`envstart check` for those who cannot ask back: its exit status, first line and documents, whatever happens."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Ended, Site, last_line
from sim.world import LOOKS_LIKE_CBSD
from toy import Toy

NONE = "no jail or VM uses an envstart hook"


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    """Yield a host on which jail1 runs with all that it needs mounted."""
    with Site(tmp_path, getfsstat=True) as site:
        toy = Toy(site)
        site.preset()
        site.world.jail("jail1", 2)
        toy.set("jail1", jid=2, status=1)
        yield toy


def hand(cbsd: Toy, *words: str) -> Ended:
    return cbsd.site.hand(*words, "-w", str(cbsd.workdir))


def into(cbsd: Toy, path: str, *words: str) -> Ended:
    """Run a check with its standard output in a file."""
    argv = cbsd.site.world.argv("envstart", *words, "-w", str(cbsd.workdir))
    with Path(path).open("w", encoding="utf-8") as file:
        return subprocess.run(
            argv, stdout=file, stderr=subprocess.PIPE, text=True, env=LOOKS_LIKE_CBSD, cwd="/", check=False
        )


def no_workdir(cbsd: Toy) -> list[str]:
    return []


def unknown_name(cbsd: Toy) -> list[str]:
    return ["-w", str(cbsd.workdir), "nobody"]


def no_configuration(cbsd: Toy) -> list[str]:
    cbsd.site.conf.write_text("")
    return ["nfs", "-w", str(cbsd.workdir), "-j", "jail1"]


def no_such_configuration(cbsd: Toy) -> list[str]:
    return ["nfs", "-w", str(cbsd.workdir), "-j", "jail1", "-c", "/nonexistent"]


def bad_option(cbsd: Toy) -> list[str]:
    return ["-w", str(cbsd.workdir), "--bogus"]


def bad_level(cbsd: Toy) -> list[str]:
    return ["-w", str(cbsd.workdir), "--level", "all"]


def no_such_workdir(cbsd: Toy) -> list[str]:
    return ["-w", "/nonexistent"]


def no_database(cbsd: Toy) -> list[str]:
    cbsd.link.unlink()
    return ["-w", str(cbsd.workdir)]


def broken_database(cbsd: Toy) -> list[str]:
    cbsd.cut(100)
    return ["-w", str(cbsd.workdir)]


def no_mount_table(cbsd: Toy) -> list[str]:
    cbsd.site.world.set(getfsstat=False)
    cbsd.site.world.fault("mount", times=None)
    return ["-w", str(cbsd.workdir)]


def none_of_ours(cbsd: Toy) -> list[str]:
    cbsd.set("jail1", mnt_start="0")
    for which in ("system", "fstab", "data"):
        cbsd.site.world.command("umount", str(cbsd.site.point(which)))
    return ["-w", str(cbsd.workdir)]


TROUBLE = (no_workdir, unknown_name, no_configuration, no_such_configuration, bad_option, bad_level, no_such_workdir,
           no_database, broken_database, no_mount_table, none_of_ours)  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_case_c4_nagios_is_told_in_every_case(cbsd: Toy, trouble: Callable[[Toy], list[str]]) -> None:
    ended = cbsd.site.hand("check", "--nagios", *trouble(cbsd))
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.startswith("ENVSTART UNKNOWN - ")
    assert ended.stdout.count("ENVSTART") == 1
    assert re.fullmatch(r"[^|]+( \| .*)?", ended.stdout.splitlines()[0])


@pytest.mark.parametrize("form", [[], ["--json"], ["--changed"]], ids=["text", "json", "changed"])
@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_case_c4_a_check_knows_four_statuses(
    cbsd: Toy, trouble: Callable[[Toy], list[str]], form: list[str], tmp_path: Path
) -> None:
    metrics = tmp_path / "envstart.prom"
    ended = cbsd.site.hand("check", *form, "--prometheus", str(metrics), *trouble(cbsd))
    assert ended.returncode == (0 if trouble is none_of_ours else 3), ended.stderr
    if "--json" in form:
        document = json.loads(ended.stdout)
        assert document["level"] == ("ok" if trouble is none_of_ours else "unknown")
        assert document.get("reason") or document["directories"]
    elif trouble is none_of_ours and not form:
        assert ended.stdout == f"{NONE}\n"
    if metrics.exists():
        count = re.search(r'envstart_problems\{level="unknown"\} (\d+)', metrics.read_text())
        assert count is not None
        assert (int(count[1]) > 0) == (trouble is not none_of_ours)


@pytest.mark.parametrize("form", [["--nagios"], ["--nagios", "--changed"], ["--json"], []], ids=" ".join)
def test_case_c4_not_root(cbsd: Toy, form: list[str]) -> None:
    """It cannot take the lock, nor keep what it has told: what it sees counts."""
    cbsd.site.world.set(uid=1001)
    ended = hand(cbsd, "check", *form)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("ENVSTART OK - ") or "--nagios" not in form
    cbsd.site.world.set(uid=0)
    critical(cbsd)
    cbsd.site.world.set(uid=1001)
    ended = hand(cbsd, "check", *form)
    assert ended.returncode == 2
    assert ended.stdout.startswith("ENVSTART CRITICAL - ") or "--nagios" not in form


def test_case_c6_no_jail_of_ours(cbsd: Toy) -> None:
    words = none_of_ours(cbsd)
    assert cbsd.site.hand("check", "--nagios", *words).stdout == f"ENVSTART UNKNOWN - {NONE}\n"
    status = cbsd.site.hand("status", *words)
    assert (status.returncode, status.stdout) == (0, f"{NONE}\n")
    for verb in ("check", "status"):
        assert json.loads(cbsd.site.hand(verb, "--json", *words).stdout)["reason"] == NONE


# What cannot be written.


def critical(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))


def warning(cbsd: Toy) -> None:
    critical(cbsd)
    cbsd.site.world.mount(cbsd.site.source("data"), cbsd.site.point("data"), opts=["ro"])


@pytest.mark.parametrize(
    ("scene", "status"), [(None, 0), (warning, 1), (critical, 2)], ids=["ok", "warning", "critical"]
)
def test_case_c3_metrics_that_cannot_be_written(cbsd: Toy, scene: Callable[[Toy], None] | None, status: int) -> None:
    if scene is not None:
        scene(cbsd)
    plain = hand(cbsd, "check")
    ended = hand(cbsd, "check", "--prometheus", "/nonexistent/x")
    assert (ended.returncode, ended.stdout) == (status, plain.stdout)
    assert "cannot write /nonexistent/x" in last_line(ended)
    document = json.loads(hand(cbsd, "check", "--json", "--prometheus", "/nonexistent/x").stdout)
    assert "cannot write /nonexistent/x" in document["warnings"][0]


@pytest.mark.parametrize("form", [["--json"], ["--nagios"], ["--changed"]], ids=["json", "nagios", "changed"])
@pytest.mark.parametrize(("scene", "status"), [(warning, 3), (critical, 2)], ids=["warning", "critical"])
def test_case_c3_a_full_disk(
    cbsd: Toy, scene: Callable[[Toy], None], status: int, form: list[str], tmp_path: Path
) -> None:
    """What is critical stays that; what nobody could read is unknown, and the metrics are written all the same."""
    scene(cbsd)
    metrics = tmp_path / "x.prom"
    ended = into(cbsd, "/dev/full", "check", *form, "--prometheus", str(metrics))
    assert ended.returncode == status
    assert "cannot write to standard output: No space left on device" in last_line(ended)
    assert 'directory="data"' in metrics.read_text()
    # It was told to nobody.
    assert hand(cbsd, "check", "--changed").stdout != ""


# Documents.


@pytest.mark.parametrize("verb", ["check", "status", "doctor"])
def test_case_c4_what_every_document_has(cbsd: Toy, verb: str) -> None:
    cbsd.site.world.fault("jls", times=None)
    ended = hand(cbsd, verb, "--json")
    document = json.loads(ended.stdout)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["time"])
    assert abs(time.time() - time.mktime(time.strptime(document["time"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert document["version"]
    assert document["host"]
    told = [line.partition("warning: ")[2] for line in ended.stderr.splitlines() if "warning: " in line]
    assert document["warnings"] == told
    assert any("what runs is taken from CBSD's database" in text for text in told)


def test_case_c4_status_of_directories_as_a_document(cbsd: Toy) -> None:
    ended = cbsd.site.hand("status", "nfs", "-w", str(cbsd.workdir), "-j", "jail1", "--json")
    document = json.loads(ended.stdout)
    assert set(document) == {"version", "host", "time", "directories", "warnings"}
    assert len(document["directories"]) == 3


def test_a_plugin_counts_jails_and_mounts(cbsd: Toy) -> None:
    assert hand(cbsd, "check", "--nagios").stdout.startswith("ENVSTART OK - 1 jail, 3 mounts | ")
    cbsd.site.world.freeze(SERVER)
    assert hand(cbsd, "check", "--nagios").stdout.startswith("ENVSTART CRITICAL - 3 critical: 1 jail, 3 mounts | ")
