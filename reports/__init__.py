"""Answers written for people: documents, and the words and numbers in them."""
