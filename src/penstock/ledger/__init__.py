"""What the gateway remembers: the journal, the store behind it, budgets, keys and reports."""
