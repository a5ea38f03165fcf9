"""The service: one-shot recognition over HTTP. Imports model, never training."""
