"""What was measured, with its bounds, and how it is shown."""
