"""`make bench`: this service and other ways to serve the same model, on one machine, in one run."""
