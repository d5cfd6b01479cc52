"""One vendor a module; vendor errors are translated at its edge."""
