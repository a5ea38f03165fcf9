"""HTTP: the application, its routes and all that surrounds a request."""
