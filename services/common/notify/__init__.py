"""Notifications that a visit has begun."""
