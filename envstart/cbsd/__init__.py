"""What CBSD knows of its jails and VMs, and the links by which it runs the hooks."""
