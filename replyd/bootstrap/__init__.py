"""The one place that knows every part and wires them. Each module imports what it wires: whoever
needs one of them imports that one."""
