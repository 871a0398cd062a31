"""Histories of starts, stops, faults and crashes on simulated hosts, and what must hold after each act of them."""
