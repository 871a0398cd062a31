"""The keys of a volume: its encryption, and its file system."""

from envstart.config import common, staging
from envstart.config.load import Config
from envstart.config.schema import NAME, Option, Options, choice, directory, integer, mount_words, words


def files(value: str) -> tuple[str, ...]:
    """Read absolute paths of files."""
    return tuple(directory(word) for word in words(value))


def mount_options(value: str) -> tuple[str, ...]:
    """Read options of mount(8), between blanks or commas, without ``-o``."""
    options = mount_words(value)
    for option in options:
        if option in ("force", "update", "union", "snapshot", "cover"):
            raise ValueError(f"has {option}, which is not safe here")
    return options


OPTIONS: Options = (
    GELI_KEYFILE := Option(
        "GELI_KEYFILE", files, "", "key file of the GELI provider; several are used in this order", placeholders=(NAME,)
    ),
    GELI_PASSFILE := Option(
        "GELI_PASSFILE", files, "", "file whose first line is its passphrase; several are joined", placeholders=(NAME,)
    ),
    VOLUME_LAYOUT := Option(
        "VOLUME_LAYOUT",
        choice("data", "tree"),
        "data",
        "data: the file system is the data directory; tree: it holds data/ system/ fstab/ for a whole jail or VM",
    ),
    VOLUME_FSTYPE := Option("VOLUME_FSTYPE", choice("ufs", "ext4"), "ufs", "its type (ext4: on Linux)"),
    VOLUME_OPTIONS := Option(
        "VOLUME_OPTIONS", mount_options, "rw", 'options of mount(8), as in "rw noatime"; nocover is always added'
    ),
    VOLUME_DIR := Option(
        "VOLUME_DIR",
        directory,
        staging.VOLUMES,
        "with VOLUME_LAYOUT=tree: directory for root alone, below which the volume itself is mounted",
    ),
    FSCK := Option(
        "FSCK",
        choice("preen", "refuse", "skip"),
        "preen",
        "before it is mounted, unless it is clean: preen: mend what needs no question; refuse: refuse it; "
        "skip: mount it as it is",
    ),
    FSCK_TIMEOUT := Option(
        "FSCK_TIMEOUT", integer(1, 86400, "seconds"), "90", "seconds that may take; TIMEOUT goes for it too"
    ),
    *common.OPTIONS,
)


def is_encrypted(config: Config) -> bool:
    """Tell whether the file system lies on a GELI provider."""
    return bool(config[GELI_KEYFILE] or config[GELI_PASSFILE])


def is_read_only(config: Config) -> bool:
    """Tell whether nobody writes to the volume."""
    return "ro" in config[VOLUME_OPTIONS]
