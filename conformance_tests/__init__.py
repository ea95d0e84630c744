"""A suite, tagged with requirement IDs, that anybody's adapter can run."""
