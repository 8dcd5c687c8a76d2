"""Upstreams for the transport's tests: one that follows a script byte by byte, and four that others wrote.

scripted       a raw server whose every byte a test writes, and the receiver that records what the transport tells
loops          runs a test on asyncio's loop and on uvloop
foreign        starts aiohttp, uvicorn, Node and nginx as processes of their own
connect_proxy  a proxy for CONNECT
"""
