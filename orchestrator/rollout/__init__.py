"""New beside old: shadow copies, what each pool did, and the report of it."""
