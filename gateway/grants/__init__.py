"""Grant stores: where models, users, organisations, plans and keys are read from, behind one interface.

base.py      the interface, and the catalogue of models
resolve.py   which model a request means, and who grants it: pure functions over what a store returned
yaml.py      the store of gateway.yaml
"""
