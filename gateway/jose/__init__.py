"""JSON Web Tokens and Keys: parsed and verified.

The signatures are PyJWT's and cryptography's work (extra `jwt`), loaded by whoever has keys to parse.
"""
