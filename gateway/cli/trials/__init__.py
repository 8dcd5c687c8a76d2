"""Commands that try endpoints and receivers of alerts.

probe.py            asking each endpoint for its models
alerts_command.py   alerts test
"""
