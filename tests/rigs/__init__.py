"""What tests and benchmarks stand on: neither imports the other for it."""
