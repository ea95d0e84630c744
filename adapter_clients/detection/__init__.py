"""Finding things in pictures, with any detector that a server has."""
