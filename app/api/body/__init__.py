"""From a request's body to images and texts, with every limit held while it comes in."""
