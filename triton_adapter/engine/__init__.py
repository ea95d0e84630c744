"""What all calls to one server share: models' metadata, slots, cancels, shared memory, sequences."""
