"""GELI: an encrypted provider of this host, or an image file, is the environment's volume (geli(8), mdconfig(8))."""

import os
import string

from envstart.config import common
from envstart.config.load import Config
from envstart.config.schema import NAME, Option, Options, directory, require_mounted
from envstart.engine.plan import Plan, Step
from envstart.environment import Environment
from envstart.errors import ConfigError
from envstart.steps.block import Block, Node
from envstart.storage import volume, volume_keys
from envstart.storage.md import Image

TITLE = "a volume on an encrypted provider, or in an encrypted image file"


def provider(value: str) -> str:
    """Read a device, or a file: what is encrypted, not what GELI makes of it."""
    path = directory(value)
    if path in ("/", "/dev"):
        raise ValueError("is a directory: write /dev/gpt/NAME, or the path of an image file")
    if path.startswith("/dev/") and path.endswith(".eli"):
        raise ValueError(f"is what is attached: write what is encrypted, {path.removesuffix('.eli')}")
    return path


OPTIONS: Options = (
    GELI_PROVIDER := Option(
        "GELI_PROVIDER",
        provider,
        None,
        "what is encrypted: a device by a name that stays (/dev/gpt/NAME, /dev/diskid/NAME), or an image file",
        placeholders=(NAME,),
    ),
    GELI_REQUIRE_MOUNTED := require_mounted("GELI_REQUIRE_MOUNTED", "the image file", "the directory that it is in"),
    *volume_keys.OPTIONS,
)
# Disks are numbered as they are found.
_KINDS = ("da", "ada", "nda", "nvd", "vtbd", "md", "cd")
_NUMBERED = tuple(f"/dev/{kind}{digit}" for kind in _KINDS for digit in string.digits)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the disk of an image, GELI, the check of the file system, the mount."""
    if not volume_keys.is_encrypted(config):
        raise ConfigError("cannot attach without a key: set GELI_KEYFILE, GELI_PASSFILE or both")
    path = config[GELI_PROVIDER]
    is_device = path.startswith("/dev/")
    device: Block = Node(path, config[common.PROBE_TIMEOUT]) if is_device else Image(config, path)
    steps: list[Step] = [device, *volume.steps(environment, config, device, guarded=False)]
    if config[GELI_REQUIRE_MOUNTED]:
        from envstart.steps import required

        if is_device:
            raise ConfigError(
                f"cannot use GELI_REQUIRE_MOUNTED: it is for an image file, not for {path}", hint="unset it"
            )
        steps = [*required.steps(config, GELI_REQUIRE_MOUNTED, path, os.path.dirname(path)), *steps]
    warnings = []
    if path.startswith(_NUMBERED):
        warnings = [f"GELI_PROVIDER is {path}, whose number may be another disk's after a boot; use /dev/gpt/NAME"]
    return Plan("geli", environment, config, steps, warnings)
