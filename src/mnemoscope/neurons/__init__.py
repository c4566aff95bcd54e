"""The search for memorization neurons by what blocking them does to a prompt's noise differences (NeMo)."""
