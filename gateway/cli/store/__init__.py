"""What was made at run time, from one store to another, or to and from a file.

store_command.py  gateway store copy, export, import
places.py         what FROM and TO stand for
progress_bar.py   how far it has come, on a terminal
"""
