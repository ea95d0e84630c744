"""A host that discovers adapters, keeps pools of replicas healthy, and dispatches tasks to them."""
