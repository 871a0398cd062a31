"""CBSD's jails and VMs: which there are, what there is of each, and the links by which CBSD runs the hooks."""
