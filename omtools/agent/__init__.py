"""omagentd: one per node; SSH server and client, the command API, state and configuration."""
