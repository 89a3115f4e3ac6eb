"""The head: surfaces, lead fields, contacts and the spatial posterior."""
