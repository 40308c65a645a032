"""The service, simulated: seeded, on a clock, with a log of what it received."""
