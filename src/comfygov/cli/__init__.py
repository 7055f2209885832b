"""The command line: unpacks arguments, calls one use case, hands the result to a renderer."""
