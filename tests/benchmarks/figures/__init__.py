"""What is measured, one figure or two a module."""
