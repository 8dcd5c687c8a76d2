"""Commands that carry run-time records between stores and files.

store_command.py  gateway store copy, export, import
places.py         what FROM and TO stand for
progress_bar.py   how far it has come, on a terminal
"""
