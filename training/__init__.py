"""Offline training of one-shot recognisers; writes the model artefacts that ``app`` serves. Imports only ``model``."""
