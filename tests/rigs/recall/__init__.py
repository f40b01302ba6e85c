"""Faces pasted into real clips, watched twice."""
