"""The door to two controls: committed tables, and so hashes, name them by it."""

from star.acquisition.controls import length_matched_random, longest_first

__all__ = ["length_matched_random", "longest_first"]
