"""Noise schedules and solvers. They know velocities and sigmas, nothing of cameras, prompts or files (spec 21)."""
