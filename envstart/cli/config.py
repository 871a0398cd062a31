"""``envstart config``: show, check or make a configuration."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator
from typing import Any

from envstart import lifecycle
from envstart.cbsd import inventory
from envstart.cli import select
from envstart.cli.arguments import CONFIG, GIVEN, Parser, Verbs
from envstart.config import load, sample
from envstart.config.schema import Option, fill
from envstart.engine import registry
from envstart.engine.plan import Plan
from envstart.environment import in_workdir
from envstart.errors import EnvstartError
from envstart.system.host import Host
from envstart.system.log import Report, tell


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb, which has three below it."""
    parser = verbs.add_parser("config", help="show, check or make a configuration", allow_abbrev=False)
    acts = parser.add_subparsers(metavar="WHAT", required=True, parser_class=Parser)
    act = acts.add_parser("show", help="effective values, and where each comes from", parents=[GIVEN])
    act.set_defaults(run=_show)
    act = acts.add_parser("check", help="every mistake, without an effect", parents=[GIVEN])
    act.set_defaults(run=_check)
    act = acts.add_parser("sample", help="a file with every key and its default", parents=[CONFIG])
    act.add_argument("backend", choices=registry.NAMES, metavar="BACKEND")
    act.set_defaults(run=_sample)


def _sample(options: argparse.Namespace, report: Report) -> int:
    tell(sample.conf(options.backend, registry.backend(options.backend).OPTIONS))
    return os.EX_OK


def _check(options: argparse.Namespace, report: Report) -> int:
    """Tell every mistake once; without a jail or VM, the file is read as every one of its sections sees it."""
    path = options.config
    if options.name or options.list:
        cases = [(environment, environment.name) for environment in select.environments(options, report)]
    else:
        workdir = options.workdir or inventory.from_rc_conf() or "/usr/jails"
        path = load.find(options.backend, workdir, path)
        names = load.examples(path, registry.backend(options.backend).OPTIONS) if path else {"any": "any"}
        cases = [(in_workdir(name, workdir), meaning) for name, meaning in names.items()]
    failures: dict[str, tuple[EnvstartError, list[str]]] = {}
    for environment, meaning in cases:
        try:
            plan = lifecycle.load(options.backend, environment, path)
        except EnvstartError as error:
            failures.setdefault(str(error), (error, []))[1].append(meaning)
            continue
        for warning in plan.warnings:
            tell(f"warning: {warning}\n")
        tell(f"{plan.config.path or 'no file'}: OK for {meaning}\n")
    status = os.EX_OK
    for failure, meanings in failures.values():
        failure.add_note(f"so for {', '.join(meanings)}")
        report.fail(failure)
        status = failure.status
    return status


def _show(options: argparse.Namespace, report: Report) -> int:
    for environment in select.environments(options, report):
        plan = lifecycle.load(options.backend, environment, options.config)
        tell("\n".join([f"# {environment.name}", *_values(plan, Host(report))]) + "\n")
    return os.EX_OK


def _values(plan: Plan, host: Host) -> Iterator[str]:
    """Return ``KEY=VALUE  # ORIGIN`` for each key, also for those that have a default."""
    derived, config, name = registry.derived(plan, host), plan.config, plan.environment.name
    for option in registry.backend(plan.backend).OPTIONS:
        text, origin = fill(config.text(option.name), name), config.origin(option.name)
        if not text or option.name in derived:
            text = derived.get(option.name, "") or _below_another(plan, option)
        if not text and option.default_help:
            origin += f": {option.default_help}"
        yield f"{option.name}={shlex.quote(text)}  # {origin}"


def _below_another(plan: Plan, option: Option[Any]) -> str:
    """Return the directory that a default like KEY/data/NAME means; "" if it is not of that form."""
    key, slash, rest = option.default_help.partition("/")
    if not slash or key not in plan.config:
        return ""
    top = fill(plan.config.text(key), plan.environment.name)
    words = [plan.environment.name if word == "NAME" else word for word in rest.split("/")]
    return f"{top.rstrip('/')}/{'/'.join(words)}"
