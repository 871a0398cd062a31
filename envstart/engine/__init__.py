"""Plans carried out: the order of steps, roll back, retries, and the record of what was mounted."""
