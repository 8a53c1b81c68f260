"""Losses: which point answers for which box, and what its error costs."""
