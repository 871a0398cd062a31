"""A GELI provider: ``/dev/X`` attached as ``/dev/X.eli`` (geli(8)).

A second attach of what is attached, or in use, fails, and on some kernels the next access then panics the host
(tests/transcripts/geli.txt, last block). So GEOM is asked first, under a lock that all environments share.
"""

from envstart import errors
from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.steps import diagnosis, keyfile
from envstart.steps.block import Block, only_on_freebsd
from envstart.storage import devices, volume_keys
from envstart.storage.attached import Attached
from envstart.system.command import Result
from envstart.system.host import Host

# Messages of geli attach (docs/freebsd.md#geli-errors), any line; what is not here may heal.
_FINAL: diagnosis.Rows = (
    ("Wrong key for", errors.PermissionDeniedError, "correct GELI_KEYFILE and GELI_PASSFILE"),
    ("Missing -p flag", errors.ConfigError, "it was made without a passphrase: unset GELI_PASSFILE"),
    ("Cannot read passphrase", errors.ConfigError, "it wants a passphrase: set GELI_PASSFILE"),
    ("No key components given", errors.ConfigError, "set GELI_KEYFILE or GELI_PASSFILE"),
    ("Cannot read metadata", errors.ConfigError, "it is no GELI provider; geli init is for you to run"),
    ("Provider size mismatch", errors.ConfigError, "its size has changed: geli resize"),
    ("No valid keys", errors.PermissionDeniedError, "its keys were destroyed; geli restore"),
    ("unsupported algorithms", errors.ConfigError, "this kernel cannot read it"),
    ("Inconsistent provider", errors.ConfigError, "its metadata are damaged; geli restore"),
    ("too long", errors.ConfigError, "shorten the passphrase"),
    ("Cannot open keyfile", errors.NotFoundError, "correct GELI_KEYFILE"),
    ("Cannot open passfile", errors.NotFoundError, "correct GELI_PASSFILE"),
    ("Cannot lock memory", errors.PermissionDeniedError, "raise the limit of locked memory"),
    ("cannot load geom_eli", errors.UnavailableError, "kldload geom_eli"),
    ("not available", errors.UnavailableError, "kldload geom_eli"),
)


class EliProvider(Attached):
    """The .eli of ``lower``."""

    fstype = "geli"

    def __init__(self, config: Config, lower: Block) -> None:
        """Take the names of the key files from the configuration."""
        super().__init__(config, "geli", lower.source, lower)
        keys, passes = config[volume_keys.GELI_KEYFILE], config[volume_keys.GELI_PASSFILE]
        self._keys, self._passes = keys or (), passes or ()

    def _attach_argv(self, device: str, *flags: str) -> tuple[str, ...]:
        words = [*flags, *([] if self._passes else ["-p"]), *(["-r"] if self._read_only else [])]
        for flag, paths in (("-k", self._keys), ("-j", self._passes)):
            words += [word for path in paths for word in (flag, path)]
        # The whole path: a name without it is first looked for in the working directory (docs/freebsd.md#geli-attach).
        return ("geli", "attach", *words, device)

    async def attached(self, host: Host) -> str | None:
        """Return the .eli of what it lies on, under whatever name it was attached (docs/faults.md, 89)."""
        only_on_freebsd(host, "GELI")
        below = await self.underneath(host)
        graph = await devices.read(host)
        provider = graph.provider(below) if below else None
        uppers = graph.on(provider, "ELI") if provider else []
        return f"/dev/{uppers[0].name}" if uppers else None

    def detach_argv(self, host: Host, device: str) -> tuple[str, ...]:
        """Return the command that detaches it."""
        return ("geli", "detach", device.removeprefix("/dev/"))

    def expected(self, host: Host) -> str:
        """Return the device that it will be."""
        return f"{super().expected(host)}.eli"

    async def attach_argv(self, host: Host) -> tuple[str, ...]:
        """Return the command of geli(8)."""
        return self._attach_argv(await self.underneath(host) or super().expected(host))

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whether it is attached, and whether GELI has lost the provider."""
        seen = await super().inspect(host)
        provider = (await devices.read(host)).provider(seen.detail)
        active = provider is None or provider.geom.config.get("State", "ACTIVE") == "ACTIVE"
        return seen if active else plan.Observation(plan.LOST, seen.detail)

    async def preflight_start(self, host: Host) -> None:
        """Check that root, and nobody else, can read the key files."""
        hint = "correct GELI_KEYFILE and GELI_PASSFILE"
        await keyfile.check(host, [*self._keys, *self._passes], self.config[common.PROBE_TIMEOUT], hint)

    async def start(self, host: Host) -> None:
        """Attach it, as often as it takes."""
        device = await self.below(host)
        await self.preflight_start(host)
        # A wrong key is told without an effect, and before anybody waits for the lock: a passphrase takes seconds.
        dry = await host.run(self._attach_argv(device, "-C"), timeout=host.deadline.left() / 2, read_only=True)
        if dry.status != 0:
            raise attach_error(dry, device)
        await until_it_heals(lambda: self.attach(host), host, self.source, self.config[common.ATTEMPTS])

    async def check_free(self, host: Host) -> None:
        """Refuse what is not there any more, or in use."""
        device = await self.below(host)
        if (await devices.read(host)).provider(device) is None:
            raise errors.TemporaryError(f"cannot attach {device}: it is not there any more", hint="try again")
        await devices.check_unused(host, device, f"attach {device}")

    async def run_attach(self, host: Host) -> Result:
        """Run geli attach, for at most half of the time that is left."""
        argv = await self.attach_argv(host)
        result = await host.run(argv, timeout=host.deadline.left() / 2, keep_locks=True)
        if result.alive:
            # Another attempt would hang at the same place, and GEOM with it.
            raise errors.BlockedError(f"cannot attach {argv[-1]}: {result.words}", hint="is what it lies on up?")
        return result

    async def attach_error(self, host: Host, result: Result) -> errors.EnvstartError:
        """Return the error that a failed ``geli attach`` is."""
        return attach_error(result, await self.below(host))

    async def undo_start(self, host: Host) -> None:
        """Detach it, unless that would hang."""
        host.invalidate()
        down = await self.why_down(host)
        if down:
            # Closing such a disk can hang like opening it, with all of GEOM; and what is attached goes with the disk.
            host.report.trace(f"{self.source} is not detached: {down}")
            return
        await self.detach(host)


def attach_error(result: Result, device: str) -> errors.EnvstartError:
    """Return the error that a failed ``geli attach`` is."""
    final = diagnosis.first(_FINAL, result.words, f"attach {device}")
    return final or errors.TemporaryError(f"cannot attach {device}: {result.words}")
