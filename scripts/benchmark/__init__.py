"""How fast star is, against slow ways and the machine's own limit: `python scripts/benchmark`."""
