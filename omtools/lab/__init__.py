"""A cluster on one machine: nodes made of namespaces."""
