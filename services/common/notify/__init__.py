"""A message to whoever wants to know that somebody came."""
