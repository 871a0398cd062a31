"""What `make install` puts where, as the port's list of files has it; tests hold both to each other."""

from __future__ import annotations

from pathlib import Path


def plist(root: Path) -> str:
    """Return the text of port/pkg-plist for the checkout at ``root``."""
    hooks = sorted(path.name for path in (root / "hooks").iterdir())
    modules = sorted(path.relative_to(root) for path in (root / "envstart").rglob("*.py"))
    compiled = [f"{path.parent}/__pycache__/{path.stem}.cpython-%%PYTHON_SUFFIX%%.pyc" for path in modules]
    pages = [*(path.name for path in (root / "man").iterdir()), *(f"{name}.8" for name in hooks if name != "run-hook")]
    files = [
        # Without @sample: a sample without a server, made a file in force, would hide the one in /root/etc.
        *(f"etc/envstart/{path.name}.sample" for path in (root / "conf").iterdir()),
        *(f"etc/periodic/daily/{path.name}" for path in (root / "freebsd" / "periodic").iterdir()),
        *(f"etc/rc.d/{path.name}" for path in (root / "freebsd" / "rc.d").iterdir()),
        *(f"libexec/envstart/hooks/{name}" for name in hooks),
        *(f"libexec/envstart/{path}" for path in [*map(str, modules), *compiled]),
        "sbin/envstart",
        "share/bash-completion/completions/envstart",
        *(f"share/examples/envstart/{path.name}" for path in (root / "freebsd" / "examples").iterdir()),
        "share/examples/envstart/envstart.tcsh",
        *(f"share/man/man{name[-1]}/{name}.gz" for name in pages),
        "share/zsh/site-functions/_envstart",
    ]
    return "".join(f"{name}\n" for name in sorted(set(files)))
