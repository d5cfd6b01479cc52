"""Virtual time for tests: the simulation's loop."""

from replyd.simulation.virtual_time import VirtualTimeLoop

__all__ = ["VirtualTimeLoop"]
