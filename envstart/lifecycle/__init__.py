"""A start and a stop as a whole, for hooks and tool alike."""
