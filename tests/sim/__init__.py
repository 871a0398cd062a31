"""A simulated FreeBSD: system commands with a common state, and a process that sees its file systems."""
