"""Find out why mount_nfs(8) has failed, where its own message tells nothing or half of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from envstart import errors
from envstart.steps import diagnosis
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system import network
from envstart.system.command import Result
from envstart.system.host import Host

# Options, and the kind of address that each leaves out.
_EXCLUDE = {
    "proto=tcp": network.INET6,
    "proto=udp": network.INET6,
    "noinet6": network.INET6,
    "proto=tcp6": network.INET,
    "proto=udp6": network.INET,
    "noinet4": network.INET,
}
# Said of what may be fine, before the reason, or in place of one.
_WARNING = "Warning, options soft and/or intr"
# What the kernel says when the daemon that an option needs does not run: mountnfs() in sys/fs/nfsclient/nfs_clvfsops.c,
# newnfs_request() in sys/fs/nfs/nfs_commonkrpc.c.
_WITHOUT = {"tlsclntd": ("Invalid argument",), "gssd": ("Permission denied", "Authentication error")}
# Seconds for a name, and for a command that only asks.
_RESOLVING, _ASKING = 4.0, 3.0


def kinds(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds of address that mount_nfs(8) takes (tests/transcripts/nfs-names.txt)."""
    lost = {_EXCLUDE[option] for option in exclusions(options)}
    return tuple(kind for kind in (network.INET, network.INET6) if kind not in lost)


def exclusions(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options that leave out a kind of address."""
    return tuple(option for option in options if option in _EXCLUDE)


def excluding(options: tuple[str, ...], has: Collection[str]) -> str:
    """Return the option that leaves out all the kinds of address that a server ``has``; "" if one is left."""
    if set(kinds(options)) & set(has):
        return ""
    return next((option for option in options if _EXCLUDE.get(option) in has), "")


def remedy(option: str) -> str:
    """Return what to do about an option that leaves out the only address of a server."""
    name, _, protocol = option.partition("=")
    return f"write {protocol[:3]} in place of {option}" if name == "proto" else f"take {option} out"


def daemons(options: tuple[str, ...]) -> dict[str, str]:
    """Return the services of FreeBSD that these options need (gssd(8), rpc.tlsclntd(8)), each with its option."""
    needed = {}
    if kerberos := [option for option in options if option.startswith("sec=krb5")]:
        needed["gssd"] = kerberos[-1]
    if "tls" in options:
        needed["tlsclntd"] = "tls"
    return needed


async def explain(host: Host, mount: ConfiguredMount, result: Result, doing: str) -> errors.EnvstartError:
    """Return why nothing is mounted; ``doing`` is "mount SOURCE on DIR"."""
    result = result._replace(err="\n".join(line for line in result.err.splitlines() if _WARNING not in line))
    if f"mount_nfs: {mount.point}: " in result.words:
        # The mount point, not the directory on the server.
        return diagnosis.of_mount(result, doing)
    error = None
    if result.status is not None and (not (result.out + result.err).strip() or _says(result, *diagnosis.NO_ADDRESS)):
        error = await _address(host, mount, result, doing)
    elif host.platform == "freebsd":
        error = await _daemon(host, mount, result, doing)
    if error is None and _says(result, "Operation not permitted"):
        error = await _refused(host, mount, result, doing)
    return error or diagnosis.of_server(result, doing)


def _says(result: Result, *texts: str) -> bool:
    return any(text in result.words for text in texts)


async def _address(host: Host, mount: ConfiguredMount, result: Result, doing: str) -> errors.EnvstartError | None:
    """Tell if the server has no address that the options allow (getnfsargs() in sbin/mount_nfs/mount_nfs.c)."""
    # mount_nfs(8) then fails without a word, mount.nfs says that there is no such name.
    server = mount.servers[0][0]
    try:
        problem, kinds = await host.call_with_timeout(network.resolve, server, timeout=_RESOLVING)
    except (errors.NoResponseError, errors.DeadlineExceededError):
        return None
    if problem or not kinds:
        return None
    if option := excluding(mount.options, kinds):
        text = f"{server} has only an {kinds[0]} address, which the option {option} leaves out"
        return errors.ConfigError(f"cannot {doing}: {text}", hint=f"{remedy(option)} in MOUNT_NFS_OPT")
    if _says(result, *diagnosis.NO_ADDRESS):
        return errors.TemporaryError(f"cannot {doing}: {result.words}; it resolves by now")
    return None


async def _daemon(host: Host, mount: ConfiguredMount, result: Result, doing: str) -> errors.EnvstartError | None:
    """Tell if a daemon does not run that an option needs."""
    for name, option in daemons(mount.options).items():
        if not _says(result, *_WITHOUT[name]):
            continue
        status = (await host.run(("service", name, "onestatus"), timeout=_ASKING, read_only=True)).status
        if status:
            text = f"cannot {doing}: {result.words}: {option} needs the service {name}, which does not run"
            return errors.UnavailableError(text, hint=f"service {name} enable; service {name} start")
        if status == 0 and name == "tlsclntd":
            hint = "does this kernel do TLS? sysctl kern.ipc.tls.enable kern.ipc.mb_use_ext_pgs: both must be 1"
            return errors.ConfigError(f"cannot {doing}: {result.words}", hint=hint)
    return None


async def _refused(host: Host, mount: ConfiguredMount, result: Result, doing: str) -> errors.EnvstartError:
    """Tell what of the ways to be refused is left for root."""
    jailed, text = "", f"cannot {doing}: {result.words}"
    if host.platform == "freebsd":
        with contextlib.suppress(errors.EnvstartError):
            # The server is the likelier one.
            asked = ("sysctl", "-n", "security.jail.jailed")
            jailed = await host.ask(asked, lambda answer: answer.out.strip(), lasting=True, timeout=_ASKING)
    if jailed == "1":
        return errors.PermissionDeniedError(f"{text}: this is a jail", hint="run CBSD and its hooks on the host")
    what = "is this host in the networks of the export? if NAT changes its port, let the server take any"
    if "noresvport" in mount.options:
        what = "take noresvport out of MOUNT_NFS_OPT, or let the server take any port"
    hint = f"{what} (Linux: insecure, FreeBSD: nfs_reserved_port_only=NO)"
    return errors.PermissionDeniedError(text, hint=hint)
