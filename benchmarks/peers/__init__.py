"""`make bench`: this service against other servers of the same model, on one machine in one run."""
