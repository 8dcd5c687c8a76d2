"""The Anthropic protocol: Messages."""
