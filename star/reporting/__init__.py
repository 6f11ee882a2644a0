"""What finished runs say: figures of merit, tables and pictures (``star report``)."""
