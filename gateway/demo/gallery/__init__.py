"""`gateway demo --pages`: every state of every page, with no gateway.

serving       one server: a list of the states, and each state on a host of its own (NAME.localhost)
states        the states of the users' pages; desk_states: those of the operators'
answers       what a route answers in a state: JSON, a refusal, a stream, silence, a broken connection
fixtures      what the routes answer where a state says nothing else; desk_fixtures: the operators';
              figures: made-up usage
static/       the list's page, and `scene.js`, which brings a page to its state as a reader would
"""

from gateway.demo.gallery.serving import run_gallery

__all__ = ["run_gallery"]
