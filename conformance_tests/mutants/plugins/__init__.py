"""Plugin modules that are broken in one way each."""
