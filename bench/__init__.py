"""Benchmarks: each measures against its peer in the same run, on the same switch."""
