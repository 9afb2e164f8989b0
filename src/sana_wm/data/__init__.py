"""Clips on their way into training."""
