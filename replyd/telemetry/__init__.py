"""Logs and metrics, made from the events of the domain."""
