"""gateway top: the live view in the terminal.

top_command.py  arguments, and the loop of what is shown
feed.py         asks a running gateway: requests as they run, the pool, usage, limits
picture.py      what is known of it
frame.py        from a picture to lines of text
screen.py       the screen, the keyboard, and both as they were afterwards
"""

from gateway.cli.top.top_command import add_to

__all__ = ["add_to"]
