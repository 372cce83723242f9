"""Diagnoses, one file each: a rule is found by being here."""
