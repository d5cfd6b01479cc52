"""A team's own tools: Python functions and HTTP endpoints.

`box.py` is the port's implementation; `python.py` and `http.py` are the kinds of tools it can
hold, `schema.py` reads what the model wrote.
"""
