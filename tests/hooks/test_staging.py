"""Where file systems are mounted that jails and VMs see a part of: not in a place that the system cleans."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import GELI, ISCSI_TREE
from cbsd import Variant
from harmless import scene

from envstart.config import staging

GELI_TREE = Variant("geli, tree", "geli", {**GELI.config, "VOLUME_LAYOUT": "tree"}, ("system", "fstab", "data"))


@pytest.mark.parametrize("variant", [GELI_TREE, ISCSI_TREE], ids=lambda variant: variant.title)
def test_case_a7_what_an_earlier_version_has_mounted_is_used_until_it_is_stopped(
    tmp_path: Path, variant: Variant
) -> None:
    """The simulated machine has /var/run/envstart in its directory run."""
    with scene(tmp_path, variant) as site:
        site.preset()
        before = site.table
        said = site.conf.read_text().splitlines()
        site.conf.write_text("".join(f"{line}\n" for line in said if not line.startswith("VOLUME_DIR")))
        started = site.start()
        assert (started.returncode, site.table) == (0, before), started.stderr
        assert f"{site.world.path}/run/volumes" in site.start("-n").stdout
        stopped = site.stop()
        assert (stopped.returncode, site.table) == (0, []), stopped.stderr
        assert f"{staging.VOLUMES}/" in site.start("-n").stdout
        assert f"{site.world.path}/run/volumes" not in site.start("-n").stdout
