"""Tests for session layers: a reference model, a state machine, small worlds, a simulation."""
