"""Doors to this machine: processes, deadlines, locks, files, network."""
