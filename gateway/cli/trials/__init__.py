"""Commands that try what the file names: its endpoints, its receivers of alerts.

probe.py            asking each endpoint for its models
alerts_command.py   alerts test
"""
