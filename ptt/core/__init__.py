"""Values and decisions: no I/O, clock, randomness, logging or third party."""
