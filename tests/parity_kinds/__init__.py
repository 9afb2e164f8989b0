"""What each kind of golden file holds and how our code reproduces it; run by `tests/parity.py` and by the tests."""
