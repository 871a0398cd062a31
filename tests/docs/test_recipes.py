"""Every configuration that README.md prints is one that its backend reads, and plans an environment by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envstart import lifecycle
from envstart.config.schema import NAME
from envstart.engine import registry
from envstart.environment import in_workdir

README = Path(__file__).resolve().parents[2] / "README.md"
JAIL = in_workdir("jail1", "/usr/jails")
# What stands in a file that a recipe adds lines to.
BEFORE = {"nfs": 'NFS_SERVER="172.16.0.1"\n'}


def recipes() -> list[tuple[str, str]]:
    """Backend and text of each: what a shell is told to write, and blocks of nothing but assignments and sections."""
    text = README.read_text(encoding="utf-8")
    found = [
        (backend, (BEFORE[backend] if sign == ">>" else "") + lines)
        for sign, backend, lines in re.findall(r"cat (>>?) \S*/env_start_(\w+)\.conf <<'EOF'\n(.*?)\n +EOF", text, re.S)
    ]
    found += [(backend, line) for line, backend in re.findall(r"echo '(.*)' > \S*/env_start_(\w+)\.conf", text)]
    blocks = re.findall(r"^\n((?: {4}(?:[A-Z_]+=.*|\[.*\])\n)+)^\n", text, re.M)
    return [*found, *(("nfs", block) for block in blocks)]


def test_they_are_found() -> None:
    found = [backend for backend, _ in recipes()]
    assert set(found) == set(registry.NAMES)
    assert found.count("nfs") == 3
    assert found.count("nullfs") == 2


@pytest.mark.parametrize(("backend", "text"), recipes())
def test_it_can_be_planned(tmp_path: Path, backend: str, text: str) -> None:
    # The file of a thin jail must be there.
    text = text.replace('THIN_FSTAB="/thin/', f'THIN_FSTAB="{tmp_path}/')
    (tmp_path / "jail1-nullfs-base.fstab").write_text(f"/thin/base {JAIL.data} nullfs ro 0 0\n")
    path = tmp_path / f"env_start_{backend}.conf"
    path.write_text(text)
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    plan = lifecycle.load(backend, JAIL, str(path))
    assert plan.config.notes == ()
    assert not [step.source for step in plan.steps if "{" in step.source]
    assert not [key for key in plan.config if NAME in str(plan.config.value(key))]


def test_values_in_the_prose_can_be_read() -> None:
    rows = {row.name: row for backend in registry.NAMES for row in registry.backend(backend).OPTIONS}
    found = re.findall(r"`([A-Z_0-9]+)=\"?([^`\"]+)\"?`", README.read_text(encoding="utf-8"))
    values = [(rows[key], value) for key, value in found if key in rows]
    assert len(values) > 10
    for row, value in values:
        assert row.read(value, "jail1") is not None, row.name
