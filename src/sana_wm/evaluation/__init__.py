"""Measures of how good a generated video is."""
