"""Galleries in memory, searchable: views of the store."""
