"""Whole daemons on a virtual clock, with seeded faults, and an oracle that keeps its own books."""
