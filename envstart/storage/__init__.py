"""Block devices below a mount: iSCSI, HAST, RBD, GELI, and the file system on them."""
