"""Many videos from one file of jobs, by one model or by several through Ray (docs/batch.md)."""
