"""The keys of every backend: how a hook goes about it, not what it mounts. Times are seconds."""

from __future__ import annotations

from envstart.config.schema import Option, Options, boolean, choice, integer, names

OPTIONS: Options = (
    TIMEOUT := Option(
        "TIMEOUT", integer(2, 86400, "seconds"), "120", "seconds the whole hook may take, roll back included"
    ),
    ATTEMPTS := Option(
        "ATTEMPTS", integer(0, 1000), "0", "attempts for one step; 0: as many as TIMEOUT leaves room for"
    ),
    PROBE_TIMEOUT := Option(
        "PROBE_TIMEOUT", integer(1, 3600, "seconds"), "10", "seconds a mounted directory may take to answer"
    ),
    CREATE_MOUNT_POINTS := Option(
        "CREATE_MOUNT_POINTS",
        boolean,
        "1",
        "make a missing mount point (0755), and missing directories between the CBSD workdir and it",
    ),
    EMPTY_DIR := Option(
        "EMPTY_DIR",
        choice("refuse", "warn", "ignore"),
        "refuse",
        "what to do when a directory that is mounted to be written to is empty and takes no file, or cannot be listed: "
        "an NFSv4 server shows a path that it does not export like that",
    ),
    HIDDEN_FILES := Option(
        "HIDDEN_FILES",
        choice("warn", "refuse", "ignore"),
        "warn",
        "what to do when a mount point has files in it, which the mount will hide",
    ),
    REQUIRE_DATA := Option(
        "REQUIRE_DATA",
        names,
        "",
        'names that must be in the data directory once it is mounted, as in "etc bin"; '
        "not for a jail or VM that CBSD has yet to create, whose directories are empty",
    ),
    REQUIRE_SYSTEM := Option("REQUIRE_SYSTEM", names, "", "the same for the system directory"),
    REQUIRE_FSTAB := Option("REQUIRE_FSTAB", names, "", "the same for the fstab directory"),
    REQUIRE_RCCONF := Option("REQUIRE_RCCONF", names, "", "the same for the rcconf directory"),
    LEASE := Option(
        "LEASE",
        choice("refuse", "warn", "ignore"),
        "refuse",
        "what to do when the file `locked` in the system directory says that another node ran "
        "the jail or VM less than 30 minutes ago",
    ),
    BREAKER := Option(
        "BREAKER",
        integer(0, 86400, "seconds"),
        "60",
        "seconds for which hooks end at once when a server is down that an earlier one has waited for; 0: each waits",
    ),
    STOP_FORCE := Option(
        "STOP_FORCE", boolean, "0", "unmount by force when a server does not answer or a directory stays busy"
    ),
    STOP_KILL := Option("STOP_KILL", boolean, "0", "end the processes that keep a directory busy: TERM, then KILL"),
    LOG_FACILITY := Option(
        "LOG_FACILITY",
        choice("none", "daemon", "user", *(f"local{number}" for number in range(8))),
        "local0",
        "syslog facility; none: no syslog",
    ),
)
NAMES = frozenset(option.name for option in OPTIONS)
# Values that allow all force that a stop can use.
FORCED = {STOP_FORCE.name: True, STOP_KILL.name: True}
# By the name of the directory.
REQUIRED = {"data": REQUIRE_DATA, "system": REQUIRE_SYSTEM, "fstab": REQUIRE_FSTAB, "rcconf": REQUIRE_RCCONF}
