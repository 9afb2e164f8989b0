"""The benchmark: reading it, making one of our own, running a model over it, and reporting what was measured."""
