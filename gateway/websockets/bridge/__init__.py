"""No upstream socket: each `create` is relayed as a stream.

responses_bridge.py  start here: lanes, chains rebuilt, what is answered without an upstream
bridge_responder.py  what the relay reports, as frames
frame_queue.py       frames on their way to the client, and the pressure that they make
chains.py            what is kept of conversations that no upstream stores
"""
