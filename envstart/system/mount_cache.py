"""Keep the mount table and the real names of directories, until a command may have changed them."""

from __future__ import annotations

from collections.abc import Sequence

from envstart.errors import UNREADABLE, TemporaryError, unreadable
from envstart.mounts import table
from envstart.system import filesystem
from envstart.system.log import Report
from envstart.system.loop import checkpoint
from envstart.system.prober import Prober
from envstart.system.process import Child

# Seconds that following symbolic links may take.
_RESOLVE = 5.0


class MountCache(Prober):
    """Reads the mount table, and finds the names that directories have there."""

    def __init__(self, report: Report, began: float | None = None, left_behind: Sequence[Child] = ()) -> None:
        """Begin without a table."""
        super().__init__(report, began, left_behind)
        self._table: table.Table | None = None
        self._real: dict[str, str] = {}
        self._empty: dict[str, table.Entry | None] = {}

    async def mounts(self) -> table.Table:
        """Return the mount table as it is now, read without touching a mount point; TemporaryError if that fails."""
        last = ""
        if self._table is None:
            # Others may be about to invalidate it, at the end of a command that ended with ours: one reading for all.
            await checkpoint()
        for _ in range(3):
            if self._table is not None:
                return self._table
            changes = self._changes
            try:
                mounts = table.Table(await self._read_table())
            except (*UNREADABLE, OSError) as error:
                last = unreadable(error) if isinstance(error, UNREADABLE) else str(error)
                await self.sleep(0.05)
                continue
            if changes == self._changes:
                self._table = mounts
            return mounts
        raise TemporaryError(f"cannot read the mount table: {last}; nothing was changed because of it")

    def invalidate(self) -> None:
        """Let the next reading, of mounts and of all else, be a new one: somebody may have changed it."""
        self._table = None
        super().invalidate()

    async def resolve(self, paths: Sequence[str]) -> bool:
        """Find the real names of paths that the table does not have, by one child; tell whether there were any."""
        mounts = await self.mounts()
        unknown = [path for path in dict.fromkeys(paths) if path not in self._real and not mounts.at(path)]
        if unknown:
            points = frozenset(mounts.points)
            answers = await self.call_with_timeout(filesystem.resolve, unknown, points, timeout=_RESOLVE)
            for path, (real, empty) in zip(unknown, answers):
                self._real[path] = real
                if empty:
                    self._empty[real] = mounts.mount_of(real)
        return bool(unknown)

    async def real(self, path: str) -> str:
        """Return the path as the mount table has it, without links; it is touched only if the table lacks it."""
        if (await self.mounts()).at(path):
            return path
        await self.resolve([path])
        return self._real[path]

    async def stack(self, path: str) -> list[table.Entry]:
        """Return what is mounted on this directory, be there links in its name; the visible mount last."""
        return (await self.mounts()).at(await self.real(path))

    async def was_empty(self, real: str) -> bool:
        """Tell whether it was an empty directory when its name was resolved, on the mount that still holds it."""
        return real in self._empty and self._empty[real] == (await self.mounts()).mount_of(real)

    async def _read_table(self) -> list[table.Entry]:
        if self.platform == "linux":
            from envstart.mounts.table_linux import mount_table

            return mount_table()
        from envstart.mounts.table_freebsd import mount_table

        try:
            return mount_table()
        except (ImportError, AttributeError, OSError, ValueError) as error:
            self.report.trace(f"getfsstat(2): {error}; asking mount(8)", level=2)
        # Not -p and not -v, which ask every file system and hang on a dead one (docs/freebsd.md#listing).
        # A quarter of what is left, the reserve included: one that hangs leaves time for another and for the roll back.
        quarter, argv = self.deadline.to_the_end() / 4, ("mount", "--libxo", "json")
        result = await self.run(argv, timeout=quarter, use_rollback_reserve=True, read_only=True)
        if result.status != 0:
            raise ValueError(result.words)
        return table.parse_libxo(result.out)
