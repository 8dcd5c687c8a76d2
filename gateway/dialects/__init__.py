"""One folder for each protocol that is relayed: its wire shapes, and how its bodies are rewritten."""
