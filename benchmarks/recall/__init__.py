"""Is anybody missed by looking less? Faces pasted into real clips, against a look at each frame."""
