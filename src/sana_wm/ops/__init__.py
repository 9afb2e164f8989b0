"""The mathematics of the hot path as plain functions of tensors; the readable twin of every later kernel."""
