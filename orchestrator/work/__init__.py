"""A piece of work from its arrival to its end: admitted, sent to a replica, kept, told of."""
