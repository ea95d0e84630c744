"""What an engine gives through its adapter, measured beside other clients of the same engine in the same run."""
