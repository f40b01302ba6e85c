"""Everything at once for a long time, and whether something grows."""
