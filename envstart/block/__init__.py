"""Steps below a file system: iSCSI sessions, reservations, GELI providers, HAST roles, file system checks."""
