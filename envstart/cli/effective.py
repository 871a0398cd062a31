"""The values that a configuration comes to, for `envstart config show`: also those that a default stands for."""

from __future__ import annotations

from envstart import backends
from envstart.config.schema import fill
from envstart.system.log import paste

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from envstart.config.schema import Option
    from envstart.engine.plan import Plan
    from envstart.system.host import Host


def lines(plan: Plan, host: Host) -> Iterator[str]:
    """Return ``KEY=VALUE  # ORIGIN`` for each key, as the jail or VM of this plan has it."""
    module, config, name = backends.backend(plan.backend), plan.config, plan.environment.name
    derived: dict[str, str] = module.derived(plan, host) if hasattr(module, "derived") else {}
    for option in module.OPTIONS:
        text, origin = fill(config.text(option.name), name), config.origin(option.name)
        if not text or option.name in derived:
            text = derived.get(option.name, "") or _below_another(plan, option)
        if not text and option.default_help:
            origin += f": {option.default_help}"
        yield f"{option.name}={paste([text])}  # {origin}"


def _below_another(plan: Plan, option: Option) -> str:
    """Return the directory that a default like KEY/data/NAME means; "" if it is not of that form."""
    key, slash, rest = option.default_help.partition("/")
    if not slash or key not in plan.config:
        return ""
    top = fill(plan.config.text(key), plan.environment.name)
    words = [plan.environment.name if word == "NAME" else word for word in rest.split("/")]
    return f"{top.rstrip('/')}/{'/'.join(words)}"
