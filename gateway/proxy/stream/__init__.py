"""A streamed answer: its beginning, its middle and its end."""
