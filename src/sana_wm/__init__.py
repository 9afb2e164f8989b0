"""SANA-WM: a camera-controlled video world model."""

