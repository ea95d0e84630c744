"""The JSON Schemas of `TaskRequest` and `TokenEvent`, generated (`make schemas`) and committed."""
