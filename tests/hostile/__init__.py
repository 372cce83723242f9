"""Files as a stranger would send them, generated on the fly, and what each of them must get."""
