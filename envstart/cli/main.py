"""``envstart``: the same work by hand, and a look at what there is, for whoever debugs a mount."""

from __future__ import annotations

import argparse
import os
import sys

from envstart import __version__, backends, environment, lifecycle
from envstart.cbsd import inventory, survey
from envstart.cbsd.records import rows
from envstart.cli import checking, effective, operate, output
from envstart.config import load, sample
from envstart.errors import EnvstartError, UsageError
from envstart.lifecycle.describe import describe
from envstart.steps import observe
from envstart.system.host import Host
from envstart.system.log import Report, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from envstart.cbsd.records import Record
    from envstart.engine.plan import Plan
    from envstart.environment import Environment

_EPILOG = """\
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"cannot read the command line: {message}", hint=f"try: {self.prog} -h")

    def _print_message(self, message: str, file: object = None) -> None:
        # The help and the version: argparse itself does not notice a disk without room.
        tell(message)


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one verb and return its exit status."""
    lifecycle.open_streams()
    report = Report("envstart")
    report.argv = argv
    if argv[:1] == ["check"]:
        return checking.guarded(report, argv, lambda: _main(argv, report))
    return lifecycle.guarded(report, lambda: _main(argv, report))


def _main(argv: Sequence[str], report: Report) -> int:
    arguments = _parser().parse_args(argv)
    report.verbose = arguments.verbose
    for name in ("config", "list", "prometheus"):
        if getattr(arguments, name, None) is not None:
            setattr(arguments, name, _whole(getattr(arguments, name)))
    # Whoever stands in a directory of the environment must not keep it busy by that.
    os.chdir("/")
    verb: Callable[[argparse.Namespace, Report], int] = arguments.run
    return verb(arguments, report)


def _whole(path: str) -> str:
    """Return the absolute path; UsageError where nobody can tell it."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError(f"cannot use {path}: the working directory is no more", hint="give the whole path") from None


def _seconds(text: str) -> float:
    """Return a length of time from the command line; ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text!r}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    verbose = _Parser(add_help=False)
    verbose.add_argument(
        "-v",
        dest="verbose",
        action="count",
        default=0,
        help="show each command when it begins and when it ends; twice: its output too",
    )
    common = _Parser(add_help=False, parents=[verbose])
    common.add_argument("-c", dest="config", metavar="FILE", help="configuration file, instead of the usual places")

    place = _Parser(add_help=False)
    place.add_argument("-j", "--env", dest="name", metavar="NAME", help="name of the jail or VM")
    place.add_argument("-d", "--data", metavar="DIR", help="its data directory")
    place.add_argument("-s", "--system", metavar="DIR", help="its system directory")
    place.add_argument("-f", "--fstab", metavar="DIR", help="its fstab directory")
    place.add_argument("-r", "--rcconf", metavar="DIR", help="the directory of rc.conf files")
    place.add_argument("-l", "--list", metavar="FILE", help="list of jails and VMs, for hosts without CBSD")

    which = _Parser(add_help=False, parents=[common, place])
    which.add_argument("backend", choices=tuple(backends.NAMES), metavar="BACKEND", help=", ".join(backends.NAMES))
    which.add_argument("-w", "--workdir", metavar="DIR", help="CBSD's workdir, instead of the directories")

    several = _Parser(add_help=False)
    several.add_argument(
        "-w",
        "--workdir",
        dest="workdirs",
        metavar="DIR",
        action="append",
        default=[],
        help="CBSD's workdir; several are looked at one after the other; default: cbsd_workdir in /etc/rc.conf",
    )
    known = _Parser(add_help=False, parents=[verbose, several])
    named = "jails and VMs that CBSD knows, as in 'web*'"
    known.add_argument("names", nargs="*", metavar="NAME", help=f"{named}; default: all")
    either = _Parser(add_help=False, parents=[common, several, place])
    either.add_argument(
        "names",
        nargs="*",
        metavar="NAME|BACKEND",
        help=f"{named}, default: all; or the backend of the one that -j, -d or -l names",
    )

    parser = _Parser(
        prog="envstart",
        description="Mount the directories of CBSD jails and VMs from where they are stored, and unmount them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"envstart {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)

    for name, text in (("start", "mount what is missing, all or nothing"), ("stop", "unmount")):
        verb = verbs.add_parser(name, help=text, parents=[which], allow_abbrev=False)
        verb.add_argument("-n", "--dry-run", dest="dry_run", action="store_true", help="only say what would be done")
        verb.set_defaults(run=_act, verb=name)
    verb = verbs.add_parser("plan", help="what is there, and what a run would do", parents=[which], allow_abbrev=False)
    verb.add_argument("--stop", dest="verb", action="store_const", const="stop", default="start", help="plan a stop")
    verb.set_defaults(run=_plan)
    verb = verbs.add_parser("status", help="what is mounted, and does it answer", parents=[either], allow_abbrev=False)
    verb.add_argument("--json", action="store_true", help="as one JSON document")
    verb.set_defaults(run=_status)
    verb = verbs.add_parser("check", help="report problems, and nothing else", parents=[either], allow_abbrev=False)
    verb.add_argument(
        "--level",
        choices=observe.LEVELS,
        default="read",
        help="table: ask nobody; read: each directory must answer; write: and take a file (default: read)",
    )
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON document")
    form.add_argument("--nagios", action="store_true", help="as a monitoring plugin, with performance data")
    verb.add_argument("--prometheus", metavar="FILE", help="write the metrics to a file, for node_exporter")
    verb.add_argument("--changed", action="store_true", help="say nothing unless it differs from the last time")
    verb.set_defaults(run=_check)
    verb = verbs.add_parser(
        "recover",
        help="unmount what hangs or is broken; or take a volume over from a host that has failed",
        parents=[either],
        allow_abbrev=False,
    )
    verb.add_argument("-n", "--dry-run", dest="dry_run", action="store_true", help="only say what would be done")
    verb.add_argument("--remount", action="store_true", help="then mount it again")
    verb.add_argument(
        "--running", action="store_true", help="also for a jail or VM that is running; its processes get errors"
    )
    verb.add_argument(
        "--preempt",
        action="store_true",
        help="take over what another host holds: its reservation, its mark, its role; only if that host is surely down",
    )
    verb.set_defaults(run=_recover)
    verb = verbs.add_parser(
        "orphans", help="what is mounted for jails and VMs that are not running", parents=[known], allow_abbrev=False
    )
    verb.add_argument(
        "--stop", action="store_true", help="unmount what the configuration or the record of a start names"
    )
    verb.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_seconds,
        default=survey.GRACE,
        help="leave alone what was started so short a time ago (default: %(default).0f)",
    )
    verb.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=600.0,
        help="for all of them together (default: %(default).0f)",
    )
    verb.set_defaults(run=operate.orphans)
    verb = verbs.add_parser(
        "doctor", help="what will go wrong later, each with its remedy", parents=[known], allow_abbrev=False
    )
    verb.add_argument("--json", action="store_true", help="as one JSON document")
    verb.set_defaults(run=operate.doctor)
    for name, text in (
        ("install", "make CBSD unmount storage on stop and before remove"),
        ("uninstall", "remove the links of install"),
    ):
        verb = verbs.add_parser(name, help=text, parents=[verbose, several], allow_abbrev=False)
        verb.add_argument("names", nargs="+", metavar="NAME", help=f"{named}; '*': and all new ones")
        verb.set_defaults(run=operate.links, verb=name)

    verb = verbs.add_parser(
        "jailconf", help="print the jail.conf(5) of a VNET thin jail", parents=[common], allow_abbrev=False
    )
    verb.add_argument("name", metavar="NAME", help="name of the jail")
    verb.add_argument("--address", required=True, metavar="ADDRESS/LENGTH", help="its IPv4 address")
    verb.add_argument("--bridge", required=True, metavar="INTERFACE", help="bridge(4) of this host that it is put on")
    verb.add_argument("--base", required=True, metavar="DIR", help="the base that it shares")
    verb.add_argument("--gateway", metavar="ADDRESS", help="its default route")
    verb.add_argument("--id", metavar="NUMBER", help="number of its epair(4), instead of one that no other jail has")
    verb.add_argument("--dir", default="/usr/local/jails", metavar="DIR", help="with containers/NAME, its skeleton")
    verb.add_argument("--hooks", metavar="DIR", help="where env_start_nullfs is, if not beside this command")
    verb.add_argument("--print-fstab", action="store_true", help="print the fstab(5) that goes with it instead")
    verb.set_defaults(run=_jailconf)

    verb = verbs.add_parser("config", help="show, check or make a configuration", allow_abbrev=False)
    acts = verb.add_subparsers(metavar="WHAT", required=True, parser_class=_Parser)
    act = acts.add_parser("show", help="effective values, and where each comes from", parents=[which])
    act.set_defaults(run=_config_show)
    act = acts.add_parser("check", help="every mistake, without an effect", parents=[which])
    act.set_defaults(run=_config_check)
    act = acts.add_parser("sample", help="a file with every key and its default", parents=[common])
    act.add_argument("backend", choices=tuple(backends.NAMES), metavar="BACKEND")
    act.set_defaults(run=_config_sample)
    return parser


def _environments(arguments: argparse.Namespace, report: Report) -> list[Environment]:
    """The environments meant: by their directories, by the workdir, where CBSD may know it better, or from a list."""
    given = {"-w": arguments.workdir, "-l": arguments.list, "-d and -s": arguments.data or arguments.system}
    options = [option for option, value in given.items() if value is not None]
    if options[1:]:
        raise UsageError(
            f"cannot tell which jail or VM is meant: {options[0]} excludes {options[1]}", hint="leave one out"
        )
    if not options:
        raise UsageError("cannot tell which jail or VM is meant: give -w and -j, or -l, or -d, -s and -j")
    if arguments.list:
        found = load.environments(arguments.list)
        if arguments.name:
            found = [one for one in found if one.name == arguments.name]
            if not found:
                raise UsageError(f"cannot find {arguments.name} in {arguments.list}")
        return found
    if not arguments.name:
        raise UsageError("cannot tell which jail or VM is meant: give -j NAME")
    if arguments.workdir:
        (workdir,) = inventory.workdirs([arguments.workdir])
        usual, host = environment.in_workdir(arguments.name, workdir), Host(report)
        found, complete = host.wait(inventory.find(host, workdir, usual.name))
        if found is None and complete:
            report.warn(f"CBSD knows no {usual.name} in {workdir}")
        elif found is not None and found.backend not in ("", arguments.backend):
            report.warn(f"CBSD starts {usual.name} by {found.backend}, not by {arguments.backend}: {found.hook}")
        return [found.environment if found is not None and found.environment is not None else usual]
    if not (arguments.data and arguments.system):
        raise UsageError("cannot do without -d and -s", hint="or give -w")
    places = (arguments.data, arguments.system, arguments.fstab, arguments.rcconf)
    return [environment.Environment(arguments.name, *places)]


def _plans(arguments: argparse.Namespace, report: Report, verb: str = "start") -> list[Plan]:
    return [
        lifecycle.planned(verb, arguments.backend, one, arguments.config, Host(report))
        for one in _environments(arguments, report)
    ]


def _act(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.dry_run:
        return _plan(arguments, report)
    plans = _plans(arguments, report, arguments.verb)
    if len(plans) > 1:
        raise UsageError(f"cannot {arguments.verb} several environments at once: give -j")
    report.about(plans[0].environment.name, plans[0].config["LOG_FACILITY"])
    host = Host(report)
    host.takeover = getattr(arguments, "preempt", False)
    host.by_hand = True
    lifecycle.act(arguments.verb, plans[0], host)
    return os.EX_OK


def _plan(arguments: argparse.Namespace, report: Report) -> int:
    status = os.EX_OK
    for plan in _plans(arguments, report, arguments.verb):
        report.subject = plan.environment.name
        error = describe(plan, report, arguments.verb)
        if error is not None:
            report.fail(error)
            status = max(status, error.status)
    return status


def _one(arguments: argparse.Namespace) -> bool:
    """Whether an environment is named by its directories, its workdir or a list, instead of being looked up."""
    named = any((arguments.name, arguments.data, arguments.system, arguments.list))
    if not named:
        if arguments.config:
            raise UsageError("cannot use -c for environments that CBSD knows: name one by -j")
        return False
    if len(arguments.names) != 1 or arguments.names[0] not in backends.NAMES:
        raise UsageError(f"cannot tell which hook is meant: give one of {', '.join(backends.NAMES)} before the options")
    if len(arguments.workdirs) > 1:
        raise UsageError("cannot look for one environment in several workdirs: give one -w")
    arguments.backend = arguments.names[0]
    arguments.workdir = arguments.workdirs[0] if arguments.workdirs else None
    return True


def _records(arguments: argparse.Namespace, report: Report) -> list[Record]:
    """What there is of each step of each environment that is meant."""
    host = Host(report)
    return [row for plan in _plans(arguments, report) for row in rows(plan, observe.states(host, plan.steps))]


def _status(arguments: argparse.Namespace, report: Report) -> int:
    if not _one(arguments):
        return operate.status(arguments, report)
    records = _records(arguments, report)
    if arguments.json:
        output.document(report, directories=records)
    else:
        tell(output.status(records))
    return os.EX_OK if all(record["level"] in ("ok", "warning") for record in records) else 1


def _check(arguments: argparse.Namespace, report: Report) -> int:
    return checking.look(arguments, report, _plans(arguments, report) if _one(arguments) else None)


def _recover(arguments: argparse.Namespace, report: Report) -> int:
    if not arguments.preempt:
        return operate.recover(arguments, report, _plans(arguments, report, "stop") if _one(arguments) else None)
    if not _one(arguments):
        raise UsageError("cannot tell which volume to take over: give the backend, and -w and -j")
    arguments.verb = "start"
    return _act(arguments, report)


def _jail_files() -> list[str]:
    """Return the texts of this host's files for jail(8), as far as they can be read."""
    import glob

    texts = []
    for path in ("/etc/jail.conf", *sorted(glob.glob("/etc/jail.conf.d/*.conf"))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        except OSError:
            continue
    return texts


def _jailconf(arguments: argparse.Namespace, report: Report) -> int:
    from envstart.cbsd import links
    from envstart.cli import jailconf

    jail = jailconf.Jail(
        arguments.name,
        arguments.address,
        arguments.bridge,
        arguments.base,
        arguments.dir,
        arguments.hooks or os.path.dirname(links.programs()["remove.d"]),
        arguments.gateway,
        arguments.id,
        arguments.config,
        jailconf.numbers_in(_jail_files()),
    )
    tell(jailconf.fstab(jail) if arguments.print_fstab else jailconf.conf(jail))
    return os.EX_OK


def _config_show(arguments: argparse.Namespace, report: Report) -> int:
    for one in _environments(arguments, report):
        plan = lifecycle.load(arguments.backend, one, arguments.config)
        tell("\n".join([f"# {one.name}", *effective.lines(plan, Host(report))]) + "\n")
    return os.EX_OK


def _config_check(arguments: argparse.Namespace, report: Report) -> int:
    """Without an environment: the file as every one of its sections sees it."""
    path = arguments.config
    if arguments.name or arguments.list:
        wanted = [(one, one.name) for one in _environments(arguments, report)]
    else:
        workdir = arguments.workdir or inventory.from_rc_conf() or "/usr/jails"
        path = load.find(arguments.backend, workdir, path)
        names = load.examples(path, backends.backend(arguments.backend).OPTIONS) if path else {"any": "any"}
        wanted = [(environment.in_workdir(name, workdir), meaning) for name, meaning in names.items()]
    failed: dict[str, tuple[EnvstartError, list[str]]] = {}
    for one, meaning in wanted:
        try:
            plan = lifecycle.load(arguments.backend, one, path)
        except EnvstartError as error:
            failed.setdefault(str(error), (error, []))[1].append(meaning)
            continue
        for warning in plan.warnings:
            tell(f"warning: {warning}\n")
        tell(f"{plan.config.path or 'no file'}: OK for {meaning}\n")
    status = os.EX_OK
    for wrong, meanings in failed.values():
        wrong.add_note(f"so for {', '.join(meanings)}")
        report.fail(wrong)
        status = wrong.status
    return status


def _config_sample(arguments: argparse.Namespace, report: Report) -> int:
    tell(sample.conf(arguments.backend, backends.backend(arguments.backend).OPTIONS))
    return os.EX_OK
