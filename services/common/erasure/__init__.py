"""Erasure: what is to go, the log of what was ordered and done, and how it goes from a store."""
