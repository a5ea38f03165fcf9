"""Whose key opens what, and how much it may ask."""
