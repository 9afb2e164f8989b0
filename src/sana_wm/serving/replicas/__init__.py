"""Live worlds from several models of one machine: replicas of the server behind one door (docs/serving.md)."""
