"""A door that a face, a second factor and the press of a button open: see README.md."""
