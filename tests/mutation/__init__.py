"""Mutation testing: how many small faults in the core's heart the tests would notice."""
