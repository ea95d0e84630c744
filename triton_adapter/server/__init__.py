"""What the server says of itself: health, models, and what we find wrong with it."""
