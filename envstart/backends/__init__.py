"""Backends: a module each, as engine/registry.py finds and describes them."""
