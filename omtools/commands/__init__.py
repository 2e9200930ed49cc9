"""The userland tools, one module each: parse, ask the agent, print."""
