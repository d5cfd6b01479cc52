"""A team's own tools: Python functions and HTTP endpoints.

`box.py` is the port's implementation; `python.py` and `http.py` are the kinds of tools it can
hold, `schema.py` reads what the model wrote.
"""

from replyd.adapters.tools.box import Tool, Tools
from replyd.adapters.tools.http import Endpoint, HttpTool
from replyd.adapters.tools.python import PythonTool
from replyd.adapters.tools.schema import check_schema

__all__ = ["Endpoint", "HttpTool", "PythonTool", "Tool", "Tools", "check_schema"]
