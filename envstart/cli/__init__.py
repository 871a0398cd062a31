"""The tool that a person or cron runs: the verbs of envstart(8)."""
