"""What a configuration file says: reading, checking, samples."""
