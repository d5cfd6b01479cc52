"""One use case a module: async, ports and domain only."""
