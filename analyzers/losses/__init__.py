"""The ledger's rows divided among the patterns that rules explain, no time twice."""
