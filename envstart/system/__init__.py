"""This machine: processes, deadlines, locks, files, network."""
