"""The routes: parse, call the recognizer, shape the answer."""
