"""Objectives, the trainer, and the recipes it runs."""
