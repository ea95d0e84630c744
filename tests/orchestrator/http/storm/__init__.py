"""A host in a storm: all faces at once, clients that vanish, replicas that die, settings that change; by a seed."""
