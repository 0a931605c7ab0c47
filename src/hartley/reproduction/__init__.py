"""Run claims, store results, draw the report."""
