"""From the text of gateway.yaml to typed values that know their lines."""
