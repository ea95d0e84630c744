"""What all calls to one engine share: the connection, who we are, what the engine told of itself."""
