"""One inference on tensors, alone or in a batch."""
