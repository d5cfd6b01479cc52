"""The process: services, buffer, consumer, servers."""
