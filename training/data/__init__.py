"""Readers of image collections, and their official downloads."""
