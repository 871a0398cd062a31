"""What is written to syslog."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest
from alarms import waiting

from envstart.system.log import Report


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere syslog(3) does not wait")
def test_a_log_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    monkeypatch.setattr("envstart.system.log._LOG", str(tmp_path / "log"))
    report = Report("env_start_nfs", "local0")
    # Nobody is there.
    report.warn("lost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, waiting(10):
        log.bind(str(tmp_path / "log"))
        report.about("jail1", "local3")
        report.warn("a\nb \udcff")
        words = rf"<156>\w{{3}} [ \d]\d \d\d:\d\d:\d\d envstart\[{os.getpid()}\]: env_start_nfs: jail1: a\\nb \\udcff"
        assert re.fullmatch(words, log.recv(1000).decode())
        for _ in range(2000):
            report.done("more than there is room for")
