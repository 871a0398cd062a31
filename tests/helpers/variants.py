"""The variants of all backends, and the site of each."""

from __future__ import annotations

from pathlib import Path

from blocks import BLOCK_VARIANTS, BlockSite
from cbsd import Site, Variant
from clients import CLIENT_VARIANTS, ClientSite
from thin_site import THIN, THIN_ZFS, ThinSite

# A mount in a mount, on a dataset or not.
FRAGILE_THIN = (
    Variant("thin jail", "nullfs", {**THIN.config, "MOUNT_SYSTEM": "0"}, ("data", "skeleton")),
    THIN_ZFS,
)
# What takes more than a mount for each directory. These run so many commands that each goes wrong in one way after the
# other; `make proof-lifecycle` plays all ways at all.
STACKS = (*BLOCK_VARIANTS, *CLIENT_VARIANTS, *FRAGILE_THIN)


def site_of(top: Path, variant: Variant) -> Site:
    """Return the site of a variant, at rest."""
    if variant in CLIENT_VARIANTS:
        return ClientSite(top, variant)
    if variant in BLOCK_VARIANTS:
        return BlockSite(top, variant)
    return ThinSite(top, variant) if "skeleton" in variant.directories else Site(top, variant)
