"""The bench: what replyd costs, against a floor and against two Lambda functions."""
