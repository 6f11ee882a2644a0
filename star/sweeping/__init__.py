"""The cells of a table, carried out: here, or on a cluster (``star sweep``)."""
