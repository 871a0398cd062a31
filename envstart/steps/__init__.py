"""Steps, each one reversible act: a mount, a client, a dataset."""
