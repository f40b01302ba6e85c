"""How often a camera is looked at, what that costs, and whom it misses."""
