"""The directory that is to be mounted on, before it is: made where it may be, and what the mount will hide is told."""

from __future__ import annotations

from . import touch
from .errors import Misconfigured, Missing, NoAnswer, NoTime, Temporary, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host
    from .mount import Mount


async def prepare(host: Host, mount: Mount, point: str, made: list[str]) -> None:
    """Make what is missing of ``point``, and note it in ``made`` before it is; Missing, Misconfigured, Temporary."""
    if await host.was_empty(point):
        return
    config = mount.config
    doing = f"cannot mount {mount.source} on {point}"
    below, create, patience = mount.create_below, config["CREATE_MOUNT_POINTS"], mount.patience
    try:
        missing, hidden = await host.bounded(touch.survey, point, mount.point, below, create, timeout=patience)
        if missing:
            made += missing
            await host.bounded(touch.make_directories, missing, mount.mode, timeout=patience)
    except (NoAnswer, NoTime) as error:
        raise Temporary(f"{doing}: the mount point gives {error}") from None
    except OSError as error:
        raise Missing(f"{doing}: the mount point cannot be used: {reason(error)}") from None
    if hidden and config["HIDDEN_FILES"] != "ignore":
        text = f"{point} is not empty ({', '.join(hidden)}): the mount hides that"
        if config["HIDDEN_FILES"] == "refuse":
            raise Misconfigured(f"{doing}: {text}; move it away")
        host.report.warn(text)
