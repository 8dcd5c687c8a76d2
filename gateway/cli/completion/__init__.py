"""Completion of the command line in shells.

completion_command.py  gateway completion
command_tree.py        the commands and their options, from the parser
shell_scripts.py       a script for each shell
"""
