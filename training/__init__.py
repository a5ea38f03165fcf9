"""Offline training of one-shot recognisers. It writes the artefacts that ``app`` serves, and imports only ``model``."""
