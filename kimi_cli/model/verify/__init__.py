"""Checks of an endpoint over the raw wire: what a server really sends, before anything of ours
repairs it. The measures are those of the vendors' verifiers (MoonshotAI/K2-Vendor-Verifier and
MoonshotAI/Kimi-Vendor-Verifier): the share of tool calls that fit their JSON schema, and of the
requests that had to bring a call."""
