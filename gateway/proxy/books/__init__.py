"""The books of relayed requests.

accounting.py   reserve and journal first, settle at the end
head_places.py  places of requests whose bodies are yet to be read
reserving.py    what a request may use and cost at most
besides.py      of that, what is no token of its own: calls of tools, images, sound
bookings.py     work that goes on after its request: booked when it ends
"""
