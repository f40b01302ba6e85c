"""A street, and how often it is looked at."""
