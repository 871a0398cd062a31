"""The mount table, and the arguments of mount(8) and umount(8)."""
