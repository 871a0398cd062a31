"""``envstart``: what a person or cron runs; a verb is a module here, and a row of VERBS."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from envstart import __version__, lifecycle
from envstart.cli import check, config, doctor, install, jailconf, orphans, recover, start, status
from envstart.cli.arguments import Parser, Run, Verbs, absolute
from envstart.system.log import Report

EPILOG = """\
examples:
  envstart plan nfs -w /usr/jails -j jail1      what there is, and what a start would do
  envstart start nfs -w /usr/jails -j jail1 -v  mount by hand, with every command shown
  envstart status nfs -w /usr/jails -j jail1
  envstart config sample nfs > /usr/jails/etc/env_start_nfs.conf
  envstart check                                report problems with any jail or VM of this host; for cron
  envstart status jail1
  envstart install '*'                          make CBSD unmount storage on stop and before remove
exit status: 0 done (status: all is mounted), 1 final, 64 usage, 66 something is missing, 69 a program is missing,
  74 fsck(8) cannot mend it, 75 try again, 77 not permitted, 78 configuration; see sysexits(3)
  check, doctor: 0 OK, 1 warning, 2 critical, 3 unknown, and nothing else from check
"""


class Verb(Protocol):
    """Module of a verb, or of several that are near to each other."""

    def add_parsers(self, verbs: Verbs) -> None:
        """Add the parser of the verb, with ``run`` among its defaults."""


# In the order of the help.
VERBS: tuple[Verb, ...] = (start, status, check, recover, orphans, doctor, install, jailconf, config)


def run() -> None:
    """Run as the installed command."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one verb and return its exit status."""
    lifecycle.open_streams()
    report = Report("envstart")
    report.argv = argv
    if argv[:1] == ["check"]:
        return check.guarded(report, argv, lambda: _main(argv, report))
    return lifecycle.guarded(report, lambda: _main(argv, report))


def _main(argv: Sequence[str], report: Report) -> int:
    options = parser().parse_args(argv)
    report.verbose = options.verbose
    for name in ("config", "list", "prometheus"):
        if getattr(options, name, None) is not None:
            setattr(options, name, absolute(getattr(options, name)))
    # Whoever stands in a directory of a jail or VM must not keep it busy by that.
    os.chdir("/")
    verb: Run = options.run
    return verb(options, report)


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="envstart",
        description="Mount the directories of CBSD jails and VMs from where they are stored, and unmount them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"envstart {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for verb in VERBS:
        verb.add_parsers(verbs)
    return top
