"""One reversible act each: a mount, a client, a dataset."""
