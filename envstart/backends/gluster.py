"""GlusterFS: a volume of one or more servers holds the environments' directories.

Facts about its client are in docs/freebsd.md#glusterfs; what its log says, and when, was seen of glusterfs 10.3.
"""

import os
import time

from envstart import errors
from envstart.config import common, directories, staging
from envstart.config.load import Config
from envstart.config.schema import ALNUM, NAME, Option, Options, client_options, host_name, identifier, integer, words
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.steps import diagnosis, fuse, fuse_tree
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host

TITLE = "directories in a GlusterFS volume"

# The client's scripts leave out longer names without a word.
_NAME_MAX = 63
# Given by envstart itself.
_OWN = ("log-file", "backup-volfile-servers", "backupvolfile-server", "volume-id", "volume-name")
# Of the client's log: all that its mount command says is that it failed.
_SAID: diagnosis.Rows = (
    ("failed to fetch volume file", errors.NotFoundError, "the server has no such volume: gluster volume list"),
    (
        "authentication failed",
        errors.PermissionDeniedError,
        "let the volume allow this host: gluster volume set VOLUME auth.allow",
    ),
    ("DNS resolution failed", errors.EnvstartError, "correct the server's name, or the resolver"),
    ("nvalid option", errors.ConfigError, "take the option out of MOUNT_GLUSTERFS_OPT"),
    (
        "cannot open /dev/fuse",
        errors.UnavailableError,
        "is the kernel module of FUSE loaded, and may this host use /dev/fuse?",
    ),
    ("Server name/volume name unspecified", errors.ConfigError, "correct GLUSTER_SERVER and GLUSTER_VOLUME"),
)
# Lines of the log that are shown, and how much of it is read (bytes).
_LINES, _TAIL = 2, 1 << 16


def servers(value: str) -> tuple[str, ...]:
    """Names or IPv4 addresses. The client's script parts several of them at colons, so that IPv6 needs a name."""
    names = words(value)
    for name in names:
        if not (ALNUM | set(".-_")).issuperset(name) or name.startswith("-"):
            raise ValueError(f"has {name!r}, which is no host name or IPv4 address (for IPv6 write a name)")
        if len(name) > _NAME_MAX:
            raise ValueError(f"has {name!r}, which is longer than {_NAME_MAX} characters")
        host_name(name)
    return names


def volume(value: str) -> str:
    """Read the name of a volume, without a directory in it."""
    if "/" in value:
        raise ValueError("has a slash: write the volume alone, as in gv0; a directory in it is GLUSTER_ROOT_DIR's")
    return identifier(value)


def mount_options(value: str) -> tuple[str, ...]:
    """Options of mount_glusterfs, between blanks or commas, without ``-o``."""
    return client_options(value, "=._:/*-%+", "the client's script cannot take", _OWN)


DIRECTORIES = directories.Keys("GLUSTER", "/", "in the volume")
OPTIONS: Options = (
    GLUSTER_SERVER := Option(
        "GLUSTER_SERVER", servers, None, "name or IPv4 address of a server; of several the next one is asked"
    ),
    GLUSTER_VOLUME := Option("GLUSTER_VOLUME", volume, None, "name of the volume"),
    *DIRECTORIES,
    *directories.OPTIONS,
    MOUNT_GLUSTERFS_OPT := Option(
        "MOUNT_GLUSTERFS_OPT",
        mount_options,
        "rw",
        'options of mount_glusterfs, as in "rw log-level=WARNING"; FreeBSD\'s takes fewer than that of Linux',
    ),
    GLUSTER_LOG_FILE := Option(
        "GLUSTER_LOG_FILE", fuse.one_word, "/var/log/glusterfs/envstart.log", "log of the client", placeholders=(NAME,)
    ),
    GLUSTER_MOUNT_TIMEOUT := Option(
        "GLUSTER_MOUNT_TIMEOUT", integer(1, 3600, "seconds"), "30", "seconds one attempt to mount may take"
    ),
    GLUSTER_MOUNT_DIR := Option(
        "GLUSTER_MOUNT_DIR",
        fuse.one_word,
        staging.GLUSTER,
        "directory for root alone, below which the volume itself is mounted, once for each jail or VM",
    ),
    *common.OPTIONS,
)


class Gluster(fuse.Client):
    """The volume."""

    fstype = "glusterfs"
    programs = ("glusterfs", "mount_glusterfs", "mount.glusterfs")
    fstypes = ("fuse.glusterfs", "fusefs", "fusefs.glusterf", "fusefs.glusterfs")

    def __init__(self, environment: Environment, config: Config, required: list[str]) -> None:
        """Name the volume, and the file that its client logs to."""
        server, *backups = config[GLUSTER_SERVER]
        self._log = config[GLUSTER_LOG_FILE]
        options = [*config[MOUNT_GLUSTERFS_OPT], f"log-file={self._log}"]
        if backups:
            options.append(f"backup-volfile-servers={':'.join(backups)}")
        source, point = f"{server}:{config[GLUSTER_VOLUME]}", fuse.private_point(config[GLUSTER_MOUNT_DIR], environment)
        timeout = config[GLUSTER_MOUNT_TIMEOUT]
        spec = MountSpec("volume", self.fstype, tuple(options), source, point, timeout, required=required)
        super().__init__(spec, environment, config)

    def same(self, source: str) -> bool:
        """``SERVER:/VOLUME`` is ``SERVER:VOLUME``."""
        return _normal(source) == _normal(self.source)

    async def _why(self, host: Host, words: str, since: float, doing: str) -> errors.EnvstartError:
        """In the words of the client's log, which alone has the reason."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(since))
        try:
            said = await host.call_with_timeout(
                log_errors, self._log, moment, timeout=self.config[common.PROBE_TIMEOUT]
            )
        except (errors.NoResponseError, errors.DeadlineExceededError, OSError):
            said = ""
        text = f"{words} ({said})" if said else words
        return diagnosis.first(_SAID, text, doing) or errors.TemporaryError(
            f"cannot {doing}: {text}",
            hint=f"are the servers and their bricks up, and can they be reached? see {self._log}",
        )


def log_errors(path: str, since: str) -> str:
    """Return the last errors in a log of glusterfs since ``YYYY-MM-DD HH:MM:SS`` (UTC, as its lines are); OSError.

    Runs in a child: the log can lie anywhere.
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = []
    for line in lines:
        mark, _, text = line.partition("] E ")
        if not text or mark[1:20] < since:
            continue
        # [MSGID: 114058] [client-handshake.c:1193:client_query_portmap_cbk] 0-gv0-client-0: failed to get the port
        while text.startswith("["):
            text = text.partition("] ")[2]
        said.append(text.strip())
    return " / ".join(said[-_LINES:])


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the client, and the directories from its mount."""
    items = directories.of(environment, config, DIRECTORIES)
    volume = Gluster(environment, config, [item.path.lstrip("/") for item in items])
    warnings = []
    if not config[GLUSTER_SERVER][1:]:
        warnings.append("GLUSTER_SERVER has one server: while it is down nothing is mounted, whatever bricks there are")
    return Plan("gluster", environment, config, fuse_tree.steps(volume, items), warnings)


def _normal(source: str) -> str:
    host, _, volume = source.rpartition(":")
    return f"{host.lower().rstrip('.')}:{volume.strip('/')}"
