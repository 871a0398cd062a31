"""What monitoring systems read, held to their formats by readers of them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envstart.cli import output
from envstart.errors import EnvstartError

# Monitoring plugins' guidelines: 'label'=value[unit];[warn];[crit];[min];[max], between blanks.
PERFORMANCE = re.compile(r"(?:'[^'=]+'|[^\s'=]+)=-?[0-9.]+(?:s|us|ms|%|[KMGT]?B|c)?(?:;[0-9.:@~-]*){0,4}")
# Prometheus, text format 0.0.4.
SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? '
    r"(?P<value>-?[0-9.]+(?:e-?[0-9]+)?|NaN|[+-]Inf)"
)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
record = st.fixed_dictionaries(
    {
        "workdir": st.sampled_from(["/a", "/b"]),
        "environment": words,
        "backend": st.sampled_from(["nfs", ""]),
        "directory": st.sampled_from(["data", "system", ""]),
        "point": words,
        "source": words,
        "fstype": st.just("nfs"),
        "state": words,
        "found": words,
        "level": st.sampled_from(list(output.SEVERITY)),
    }
)
records = st.lists(record, max_size=6)


@given(records, st.floats(0, 1000))
def test_nagios(rows: list[dict[str, Any]], seconds: float) -> None:
    text = output.nagios(rows, seconds, "2 jails")
    first, _, rest = text.partition("\n")
    status, bar, data = first.partition(" | ")
    assert bar
    assert status.split(" - ")[0] == f"ENVSTART {output.worst(rows).upper()}"
    assert all(PERFORMANCE.fullmatch(word) for word in data.split())
    assert "|" not in rest
    assert len(rest.splitlines()) == sum(row["level"] != "ok" for row in rows)


@given(records, st.floats(0, 1000))
def test_prometheus(rows: list[dict[str, Any]], seconds: float) -> None:
    text = output.prometheus(rows, seconds)
    assert text.endswith("\n")
    types: dict[str, str] = {}
    series: set[str] = set()
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            keyword, name, rest = line[2:].split(" ", 2)
            assert keyword in ("HELP", "TYPE")
            if keyword == "TYPE":
                assert name not in types
                types[name] = rest
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert types[sample["name"]] == "gauge"
        labels = dict(LABEL.findall(sample["labels"] or ""))
        assert line.rpartition(" ")[0] not in series
        series.add(line.rpartition(" ")[0])
        if "environment" in labels:
            decoded = re.sub(r'\\([\\"n])', lambda found: {"n": "\n"}.get(found[1], found[1]), labels["environment"])
            assert decoded in {row["environment"] for row in rows}
    for level in output.SEVERITY:
        assert f'envstart_problems{{level="{level}"}} {sum(row["level"] == level for row in rows)}\n' in text


@given(records)
def test_the_worst_level(rows: list[dict[str, Any]]) -> None:
    order = list(output.SEVERITY)
    assert output.worst(rows) == min((row["level"] for row in rows), key=order.index, default="ok")


def row(**values: str) -> dict[str, Any]:
    keys = ("workdir", "environment", "backend", "directory", "point", "source", "fstype", "state", "found", "level")
    return {**dict.fromkeys(keys, ""), "level": "critical", **values}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "envstart.prom"
    path.write_text("old\n")
    with path.open() as reader:
        output.replace(str(path), "new\n")
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["envstart.prom"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvstartError, match=r"cannot write .*/no/x: No such file or directory"):
        output.replace(str(tmp_path / "no" / "x"), "text")


def test_what_changes_at_each_look_is_no_change(tmp_path: Path) -> None:
    path = str(tmp_path / "last")
    assert not output.changed(path, [])
    assert output.changed(path, [row(state="no answer", found="pid 1 waits since 10:00:00")])
    assert not output.changed(path, [row(state="no answer", found="pid 1 waits since 10:01:00")])
    assert output.changed(path, [row(state="broken")])
    assert output.changed(path, [row(level="ok")])
    assert not output.changed(path, [])
