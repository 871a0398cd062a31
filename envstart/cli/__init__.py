"""What a person runs: the verbs of envstart(8)."""
