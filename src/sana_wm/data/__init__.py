"""Clips on disk: recorded once, read by window."""
