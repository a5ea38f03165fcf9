"""Parses request bodies into images and texts, and enforces all limits while they arrive."""
