"""The survey of jails and VMs, and what happens while it is made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from envstart.cbsd import monitored, survey
from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.cbsd.monitored import Monitored, Row
from envstart.engine import start_marks
from envstart.engine.plan import Observation
from envstart.environment import file_name
from envstart.system.host import Host


def test_what_is_started_in_the_meantime_is_no_orphan(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gives no answer can hold the survey up for long; what is mounted by then is looked at after it."""
    record = EnvironmentRecord.removed("/W", "jail1", "nfs")

    def of_idle(_: Host, environments: Sequence[Monitored]) -> list[Row]:
        assert record.environment is not None
        start_marks.record_start(file_name(record.environment))
        return [Row(each, None, Observation(monitored.ORPHAN, "")) for each in environments]

    monkeypatch.setattr(survey, "of_idle", of_idle)
    assert survey.everything(host, Inventory("/W", "/W", [record], [], complete=True), ["jail1"], "table") == []
