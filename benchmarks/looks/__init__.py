"""How often a camera is looked at, what that costs, and which people are missed."""
