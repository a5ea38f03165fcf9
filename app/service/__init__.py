"""All parts of the service, started in order and closed in reverse."""
