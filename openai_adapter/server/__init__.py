"""What the engine says of itself: how it is, what it has, what will surprise somebody."""
